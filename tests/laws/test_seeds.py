"""Seeds trained together == each alone: the same numbers, and none sees anything of another."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.experiments.experiment import AgentConfig, Experiment
from s5wm.training.config import TrainConfig
from s5wm.training.loop import iterate_all, train, train_all
from s5wm.training.state import TrainState, init_train

from ..tiny import DREAMERV3, S5WM, learning

TRAIN = TrainConfig(num_envs=4, rollout_length=8, iterations_per_chunk=2)
SHAPE = {"length": TRAIN.rollout_length, "iterations": TRAIN.iterations_per_chunk}
GIVEN = SHAPE | {
    "iterations": np.int32(TRAIN.iterations_per_chunk)
}  # as a training gives them to its program
AGENTS: dict[str, AgentConfig] = {
    "s5wm": learning(S5WM),
    "dreamerv3": learning(DREAMERV3),
    "ppo": PPOConfig(units=8, layers=1, epochs=1, minibatches=2),
}
SEEDS = (3, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent", ["ppo", *(pytest.param(name, marks=pytest.mark.faults) for name in ("s5wm", "dreamerv3"))]
)
def test_seeds_train_together_as_they_do_alone(agent: str) -> None:
    program = Experiment(task=DoubleIntegratorConfig(steps=10), agent=AGENTS[agent], train=TRAIN).build()
    given = (program.env, program.agent)

    def begun(seed: int) -> TrainState[Any]:
        return init_train(*given, TRAIN.num_envs, seed)

    together: Any = [begun(seed) for seed in SEEDS]
    alone: Any = [begun(seed) for seed in SEEDS]
    metrics: Any = None
    for _ in range(3):
        results = train_all(*given, together, **GIVEN)
        together = [result[0] for result in results]
        own = [train_all(*given, [state], **GIVEN)[0] for state in alone]
        alone = [result[0] for result in own]
        metrics = [result[1:] for result in results], [result[1:] for result in own]
    for one, other in ((together, alone), metrics):
        for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(_plain(left), _plain(right), rtol=1e-4, atol=1e-5)
    for left, right in zip(*(jax.tree.leaves(state.learner.params) for state in together[:2]), strict=True):
        assert left.ndim < 2 or not np.allclose(left, right)  # another seed is another training


@pytest.mark.parametrize("agent", ["s5wm"])
def test_the_batch_over_seeds_learns_behind_one_branch(agent: str) -> None:
    """A count of rows for each seed would make ``cond`` run both sides, and copy every replay to choose between."""
    program = Experiment(task=DoubleIntegratorConfig(steps=10), agent=AGENTS[agent], train=TRAIN).build()
    states = [
        jax.eval_shape(lambda s=s: init_train(program.env, program.agent, TRAIN.num_envs, s)) for s in (0, 1)
    ]
    alone = jax.make_jaxpr(lambda state: train(program.env, program.agent, state, **SHAPE))(states[0])
    both = jax.make_jaxpr(lambda x: iterate_all(program.env, program.agent, x, **SHAPE))(states)
    assert str(both).count("cond[") == str(alone).count("cond[") > 0


def _plain(leaf: jax.Array) -> np.ndarray[Any, Any]:
    return np.asarray(jr.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
