"""Numbers that are not finite, from an environment and in a gradient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

from s5wm.actions import Box
from s5wm.agents.base import NonFiniteGuard, is_finite, tree_where
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.errors import DivergedError
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.runs.directory import RunDirectory
from s5wm.training.divergence import SKIPS, failure_reason
from s5wm.training.fit import SeedRun, fit, load
from s5wm.training.run import Trainer
from s5wm.training.state import NEVER, NonFiniteReport
from s5wm.types import Key, Metrics, Reward, TimeStep

from .conftest import RecordingSink


class Poisonous(AbstractEnv[Any]):
    """Like the environment inside, but copies with a positive start are poisoned in their third step."""

    env: AbstractEnv[Any]
    obs: Float[Array, ""]
    reward: Float[Array, ""]

    @property
    def spec(self) -> EnvSpec:
        return self.env.spec

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        state, timestep = self.env.reset(key)
        return (state, timestep.obs[0] > 0, jnp.zeros((), jnp.int32)), timestep

    def restart(self, state: Any, key: Key) -> tuple[Any, TimeStep]:
        inner, timestep = self.env.restart(state[0], key)
        return (inner, state[1], state[2]), timestep

    def step(self, state: Any, action: Float[Array, " A"], key: Key) -> tuple[Any, TimeStep]:
        inner, timestep = self.env.step(state[0], action, key)
        now = state[1] & (state[2] == 2)
        nominal = jnp.where(now, self.reward, timestep.reward.nominal)
        obs = jnp.where(now, self.obs, timestep.obs)
        poisoned = replace(timestep, obs=obs, reward=Reward(nominal, timestep.reward.smoothing))
        return (inner, state[1], state[2] + 1), poisoned

    def episode_metrics(self, state: Any) -> Metrics:
        return self.env.episode_metrics(state[0])


def trainer_in(tiny: Experiment, directory: RunDirectory, wrap: Callable[[AbstractEnv[Any]], Any]) -> Trainer:
    program = tiny.build()
    save_experiment(directory.config, tiny)
    return Trainer(replace(program, env=wrap(program.env)), tiny.train, directory, tiny.seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "value"), [("observation", np.nan), ("reward", np.nan), ("observation", np.inf)]
)
def test_an_environment_that_is_not_finite_is_named_and_nothing_is_learned_from_it(
    tiny: Experiment, run_path: Path, sink: RecordingSink, what: str, value: float
) -> None:
    with RunDirectory(run_path) as directory:
        obs, reward = (value, 0.0) if what == "observation" else (0.0, value)
        trainer = trainer_in(
            tiny, directory, lambda env: Poisonous(env, jnp.asarray(obs), jnp.asarray(reward))
        )
        load([trainer], sink.write_line)
        positive = np.flatnonzero(np.asarray(trainer.state.actor.timestep.obs)[:, 0] > 0)
        with pytest.raises(DivergedError) as caught:
            fit([SeedRun(trainer, sink, lambda: None)], sink.write_line)
    assert f"the {what} of environment {positive[0]} was not finite at step 2 of the chunk" in "\n".join(
        sink.texts
    )
    assert str(caught.value).count("not finite") == 4
    assert "Look there, then" in str(caught.value)
    assert list((run_path / "diverged").glob("*.npz"))
    assert sink.rows == []
    assert not list((run_path / "checkpoints").glob("[0-9]*"))


@pytest.mark.slow
def test_gradients_without_end_roll_back_and_then_exit_with_finite_weights(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    longer = replace(tiny.train, iterations_per_chunk=26, env_steps=26 * 32)  # of two gradient steps each
    huge = replace(tiny, train=longer)
    with RunDirectory(run_path) as directory:
        # Finite at the boundary, so that the loss is where it shows.
        trainer = trainer_in(huge, directory, lambda env: Always(env, jnp.asarray(1e30)))
        load([trainer], sink.write_line)
        before = trainer.state
        params = jax.device_get(before.learner.params)
        with pytest.raises(DivergedError, match="52 gradient steps in a row") as caught:
            fit([SeedRun(trainer, sink, lambda: None)], sink.write_line)
        after = jax.device_get(trainer.state.learner.params)
    assert caught.value.exit_code == 70
    assert [text.rsplit(" ", 1)[1] for text in sink.texts if "rolled back" in text] == [
        "0.5",
        "0.25",
        "0.125",
    ]
    jax.tree.map(np.testing.assert_array_equal, params, after)


class Always(AbstractEnv[Any]):
    """The same with one reward for everything."""

    env: AbstractEnv[Any]
    reward: Float[Array, ""]

    @property
    def spec(self) -> EnvSpec:
        return self.env.spec

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        return self.env.reset(key)

    def restart(self, state: Any, key: Key) -> tuple[Any, TimeStep]:
        return self.env.restart(state, key)

    def step(self, state: Any, action: Float[Array, " A"], key: Key) -> tuple[Any, TimeStep]:
        state, timestep = self.env.step(state, action, key)
        return state, replace(timestep, reward=Reward(self.reward, timestep.reward.smoothing))

    def episode_metrics(self, state: Any) -> Metrics:
        return self.env.episode_metrics(state)


def test_a_guard_counts() -> None:
    guard = NonFiniteGuard.init()
    for healthy in (False, False, True, False):
        guard = guard.count(jnp.asarray(healthy))
    assert (int(guard.skipped), int(guard.in_a_row), int(guard.longest)) == (3, 1, 2)
    assert float(guard.rate) == 1.0


def test_one_bad_step_is_no_trouble_and_fifty_are() -> None:
    none = NonFiniteReport(*(jnp.asarray(NEVER),) * 3)
    guard = NonFiniteGuard.init()
    assert failure_reason({"loss": 1.0}, guard.count(jnp.asarray(False)), none, 4) is None
    for _ in range(SKIPS):
        guard = guard.count(jnp.asarray(False))
    assert "50 gradient steps in a row" in (failure_reason({"loss": 1.0}, guard, none, 4) or "")
    assert failure_reason({"loss": float("nan")}, NonFiniteGuard.init(), none, 4) == "loss not finite"


def test_picking_hides_what_is_not_picked() -> None:
    tree = {"x": jnp.asarray(jnp.nan), "n": jnp.asarray(3)}
    assert not is_finite(tree)
    picked = tree_where(jnp.asarray(False), tree, {"x": jnp.asarray(1.0), "n": jnp.asarray(2)})
    assert is_finite(picked)
    assert int(picked["n"]) == 2


def test_an_environment_is_given_numbers_between_minus_one_and_one() -> None:
    given = Box((5,)).decode(jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.5, -3.0]))
    np.testing.assert_array_equal(given, [0.0, 1.0, -1.0, 0.5, -1.0])


def test_the_first_fault_of_a_chunk_is_told_by_step_and_environment() -> None:
    def shown(bad: int | None) -> TimeStep:
        obs = jnp.zeros((3, 2)) if bad is None else jnp.zeros((3, 2)).at[bad, 1].set(jnp.nan)
        no = jnp.zeros(3, bool)
        return TimeStep(obs, obs, Reward(jnp.zeros(3), jnp.zeros(3)), no, no, no)

    steps = [
        NonFiniteReport.at(shown(bad), jnp.zeros((3, 1)), jnp.asarray(t))
        for t, bad in enumerate([None, 2, 0])
    ]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *steps)
    faults = stacked.first()
    assert divmod(int(faults.observation), 3) == (1, 2)
    assert int(faults.reward) == int(faults.action) == NEVER
    assert divmod(int(faults.later(jnp.asarray(8 * 3)).observation), 3) == (9, 2)
    assert int(faults.later(jnp.asarray(8 * 3)).reward) == NEVER


@pytest.mark.slow
def test_same_seed_same_training_other_seed_another_and_copies_differ(tiny: Experiment) -> None:
    from s5wm.training.loop import train
    from s5wm.training.state import init_train

    program, config = tiny.build(), tiny.train

    def after(seed: int) -> Any:
        state = init_train(program.env, program.agent, config.num_envs, seed)
        return jax.device_get(train(program.env, program.agent, state, length=8, iterations=2)[0])

    first, again, other = after(0), after(0), after(1)
    same = jax.tree.map(np.array_equal, first.learner, again.learner)
    assert all(jax.tree.leaves(same))
    left, right = (jax.tree.leaves(state.learner.params.actor)[0] for state in (first, other))
    assert not np.array_equal(left, right)
    obs = first.actor.timestep.obs
    assert len({row.tobytes() for row in obs}) == config.num_envs
    assert jr.key_data(first.key).tobytes() == jr.key_data(again.key).tobytes()
