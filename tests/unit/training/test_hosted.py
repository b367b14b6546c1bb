"""Training on environments that the host steps: rows in their places, cut and begun anew on resumption."""

import functools as ft
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.actions import Discrete
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.adapters.gymnasium import Hosting, host_env
from s5wm.envs.adapters.tasks import GymnasiumConfig
from s5wm.envs.base import AbstractEnv
from s5wm.envs.task import Episodes
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError, EnvironmentFailedError
from s5wm.evaluation.hosted import run_hosted_episodes
from s5wm.evaluation.rollout import EvalConfig
from s5wm.experiments.experiment import Experiment
from s5wm.training.config import TrainConfig
from s5wm.training.hosted import HostedChunk
from s5wm.training.loop import train
from s5wm.training.state import NEVER, init_train
from s5wm.types import EnvSpec, Reward, TimeStep, first_step

from ...tiny import S5WM

LENGTH = 3  # steps of an episode


class Counter(gym.Env):
    """Shows the step and the action before; pays the step times the action; solved if the last action was 1."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, wrong_at: int | None = None) -> None:
        self._wrong_at = wrong_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2), {}

    def step(self, action):
        self.t += 1
        reward = float("nan") if self.t == self._wrong_at else float(self.t * action)
        is_over = self.t == LENGTH
        info = {"is_success": bool(action)} if is_over else {}
        return np.array([self.t, action], float), reward, is_over, False, info


AGENT = PPOConfig(units=4, layers=1, epochs=1, minibatches=2)
REMEMBERS = replace(S5WM, replay=replace(S5WM.replay, prefill=16))


def chunk_of(make=Counter, agent=AGENT, num_envs=2, length=5):
    env = host_env(make)
    agent = agent.build(env.spec, num_envs=num_envs)
    return (
        HostedChunk(env, agent, num_envs=num_envs, length=length, seed=0),
        init_train(env, agent, num_envs, 0),
        agent,
    )


def test_a_spec_is_read_from_the_spaces() -> None:
    env = host_env(Counter)
    assert env.spec.obs_shape == (2,) and env.spec.action == Discrete(2)
    assert env.spec.privileged_size == 0 and not env.spec.has_smoothing
    with pytest.raises(ConfigError, match="outside the compiled program"):
        env.step(None, env.spec.action.blank(), jax.random.key(0))


def rollouts(chunk: HostedChunk, monkeypatch: pytest.MonkeyPatch) -> list:
    """What the agent is given to learn from, as it is given."""
    seen = []
    collect = chunk._collect

    def watched(*arguments):
        actor, rollout = collect(*arguments)
        seen.append(jax.device_get(rollout))
        return actor, rollout

    monkeypatch.setattr(chunk, "_collect", watched)
    return seen


def test_rows_hold_what_was_seen_and_done_there(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, state, _ = chunk_of()
    seen = rollouts(chunk, monkeypatch)
    ((state, metrics, sums),) = chunk([state], 2)
    rows = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *seen)
    steps = np.arange(10) % (LENGTH + 1)  # the last step of an episode is followed by a reset
    for env in range(2):
        np.testing.assert_array_equal(rows.timestep.obs[env, :, 0], steps)
        np.testing.assert_array_equal(rows.timestep.is_first[env], steps == 0)
        np.testing.assert_array_equal(rows.timestep.is_last[env], steps == LENGTH)
        np.testing.assert_array_equal(rows.timestep.is_terminal[env], steps == LENGTH)
        chosen = rows.action[env].argmax(-1)
        assert set(rows.action[env].sum(-1)) == {1.0}
        moved = steps[1:] > 0
        np.testing.assert_array_equal(rows.timestep.obs[env, 1:, 1][moved], chosen[:-1][moved])
        paid = np.where(moved, steps[1:] * chosen[:-1], 0.0)
        np.testing.assert_allclose(rows.timestep.reward.nominal[env, 1:], paid)
    assert int(state.iteration) == 2
    assert float(metrics.count) == 2 * 2  # minibatches
    ended = rows.timestep.is_last[:, 1:].sum()
    assert float(sums.count) == ended == 4
    assert float(sums.metrics["length"]) / float(sums.counts["length"]) == LENGTH
    returns = sum(rows.timestep.reward.nominal[env, 1:9].sum() for env in range(2))
    assert float(sums.metrics["return_nominal"]) == pytest.approx(returns)
    solved = [rows.action[env, at].argmax() for env in range(2) for at in (2, 6)]
    assert float(sums.metrics["success"]) == sum(solved) and float(sums.counts["success"]) == 4
    assert int(sums.faults.reward) == NEVER
    chunk.close()


def test_another_process_goes_on_with_the_same_learner_and_cuts_what_was_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, state, _ = chunk_of()
    ((state, _, _),) = first([state], 1)
    first.close()
    second, _, _ = chunk_of()
    seen = rollouts(second, monkeypatch)
    before = jax.device_get(state.actor.timestep)
    second([state], 1)
    rows = seen[0].timestep
    np.testing.assert_array_equal(rows.obs[:, 0], before.obs)  # where it stood
    assert rows.is_last[:, 0].all() and not rows.is_terminal[:, 0].any()
    assert (
        rows.is_first[:, 1].all()
        and (rows.obs[:, 1] == 0.0).all()
        and (rows.reward.nominal[:, 1] == 0.0).all()
    )
    assert not rows.is_first[:, 2:4].any()
    second.close()


def test_an_overlapped_iteration_is_collected_by_the_policy_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The staleness is one iteration within a chunk, none at its beginning, and all is learned at its end."""
    plain, state, agent = chunk_of()
    overlapped = HostedChunk(host_env(Counter, Hosting(overlap=True)), agent, num_envs=2, length=5, seed=0)
    acted, taken = [], overlapped._collect
    monkeypatch.setattr(
        overlapped, "_collect", lambda policy, *more: acted.append(policy) or taken(policy, *more)
    )
    ((begun, _, _),) = plain([state], 1)
    begun = jax.tree.map(jnp.copy, begun)
    _, state, _ = chunk_of()
    ((after, metrics, _),) = overlapped([state], 3)
    _, state, _ = chunk_of()

    def differ(one, other) -> bool:
        return any(
            (np.asarray(x) != np.asarray(y)).any()
            for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        )

    first, second, third = acted
    assert not differ(first, agent.policy(state.learner)) and not differ(second, first)
    assert not differ(third, agent.policy(begun.learner)), "the first update is that without overlap"
    assert differ(third, agent.policy(after.learner))
    assert int(after.iteration) == 3 and float(metrics.count) == 3 * 2, "no rollout is left over"
    plain.close()
    overlapped.close()


def test_an_environment_whose_reward_is_no_number_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk, state, _ = chunk_of(ft.partial(Counter, wrong_at=2))
    seen, told = rollouts(chunk, monkeypatch), list[str]()
    chunk.tell = told.append
    ((_, _, sums),) = chunk([state], 1)
    rows = seen[0].timestep
    assert np.isfinite(rows.reward.nominal).all() and int(sums.faults.reward) == NEVER
    # Its episode is cut at the step before, and another begins.
    np.testing.assert_array_equal(rows.is_last[0], [False, True, False, True, False])
    np.testing.assert_array_equal(rows.is_first[0], [True, False, True, False, True])
    assert told[0] == "environment 0 failed (its reward was not finite); it is made anew"
    chunk.close()


class CounterState(eqx.Module):
    t: jax.Array
    action: jax.Array


class CompiledCounter(AbstractEnv[CounterState]):
    """``Counter`` in JAX."""

    @property
    def spec(self):
        return EnvSpec((2,), np.dtype(np.float32), Discrete(2), ctrl_dt=1.0)

    def reset(self, key):
        zero = jnp.zeros((), jnp.int32)
        return CounterState(zero, zero), first_step(jnp.zeros(2))

    def step(self, state, action, key):
        t = state.t + 1
        no, is_over = jnp.zeros((), bool), t == LENGTH
        obs = jnp.stack([t, action]).astype(jnp.float32)
        reward = Reward(nominal=(t * action).astype(jnp.float32))
        return CounterState(t, action), TimeStep(
            obs=obs, privileged=None, reward=reward, is_first=no, is_last=is_over, is_terminal=is_over
        )


# A world model learns from such rows in test_examples.py too, in make test.
@pytest.mark.parametrize("agent", [AGENT, pytest.param(REMEMBERS, marks=pytest.mark.faults)])
def test_what_the_host_collects_is_learned_as_what_the_program_collects(agent) -> None:
    """The law of collectors: the same rows, and so the same learner, from the same seed."""
    chunk, state, _ = chunk_of(agent=agent, length=8)
    ((hosted, metrics, told),) = chunk([state], 3)
    chunk.close()
    assert float(metrics.count) > 0 and all(np.isfinite(value) for value in metrics.means.values())
    env = AutoReset(CompiledCounter())
    agent = agent.build(env.spec, num_envs=2)
    compiled, _, sums = train(env, agent, init_train(env, agent, 2, 0), length=8, iterations=3)
    mine, theirs = (
        (x.learner, x.actor.timestep, x.actor.carry, x.actor.return_nominal, x.actor.length)
        for x in (hosted, compiled)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), mine, theirs)
    assert float(told.count) == float(sums.count) == 2 * 6
    assert jax.random.key_data(hosted.key).tolist() == jax.random.key_data(compiled.key).tolist()


def test_evaluations_are_whole_episodes_of_the_mode() -> None:
    env = host_env(Counter)
    agent = AGENT.build(env.spec)
    policy = agent.policy(agent.init(jax.random.key(0)))
    plan = EvalConfig(episodes=5, max_steps=10, recorded=0, snapshot=lambda _: {})
    episodes = run_hosted_episodes(env, policy, plan, jax.random.key(1))
    assert episodes.steps.tolist() == [LENGTH] * 5 and episodes.is_terminal.all()
    assert set(episodes.of_each("success")) <= {0.0, 1.0}
    assert np.ptp(episodes.return_nominal) == 0.0  # nothing is random but the policy
    cut = run_hosted_episodes(env, policy, replace(plan, max_steps=2), jax.random.key(1))
    assert cut.steps.tolist() == [2] * 5 and not cut.is_terminal.any()


class Boaster(Counter):
    """Reports metrics by the names of what an evaluation measures itself, and fails in the episode of one seed."""

    fails_at: int | None = None

    def reset(self, *, seed=None, options=None):
        self.is_bad = seed is not None and self.fails_at is not None and seed % 5 == self.fails_at
        return super().reset(seed=seed)

    def step(self, action):
        if self.is_bad:
            raise RuntimeError("the simulator broke")
        obs, _, is_over, cut, info = super().step(action)
        return (
            obs,
            1.0,
            is_over,
            cut,
            info | {"metrics": {"return": -99, "steps": 777, "terminal": 0, "gain": 3}},
        )


def evaluated(make) -> Episodes:
    env = host_env(make)
    agent = AGENT.build(env.spec)
    plan = EvalConfig(episodes=5, max_steps=10, recorded=0, snapshot=lambda _: {})
    return run_hosted_episodes(env, agent.policy(agent.init(jax.random.key(0))), plan, jax.random.key(1))


def test_metrics_of_an_environment_do_not_replace_the_evaluation_s_own() -> None:
    episodes = evaluated(Boaster)
    assert episodes.return_nominal.tolist() == [LENGTH] * 5
    assert episodes.steps.tolist() == [LENGTH] * 5 and episodes.is_terminal.all()
    assert episodes.of_each("gain").tolist() == [3.0] * 5


def test_an_episode_in_which_its_environment_failed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Boaster, "fails_at", 2)
    episodes = evaluated(Boaster)
    assert episodes.return_nominal.tolist() == [LENGTH] * 4
    # The episode that begins in its place may have a bad seed too.
    assert set(episodes.notices) == {
        "environment 2 failed (RuntimeError: the simulator broke); it is made anew"
    }
    monkeypatch.setattr(Boaster, "step", lambda self, action: 1 / 0)
    with pytest.raises(EnvironmentFailedError, match="every episode of an evaluation was cut short"):
        evaluated(Boaster)


def test_an_environment_that_ends_the_program_has_failed() -> None:
    """A window that is closed calls ``sys.exit``."""

    class Window(Counter):
        def step(self, action):
            if self.t == 1:
                raise SystemExit(0)
            return super().step(action)

    chunk, state, _ = chunk_of(Window)
    told: list[str] = []
    chunk.tell = told.append
    chunk([state], 1)
    assert "SystemExit: 0" in told[0]
    chunk.close()


def test_an_environment_need_not_be_closed() -> None:
    class Plain:
        observation_space, action_space = Counter.observation_space, Counter.action_space

        def reset(self, *, seed=None, options=None):
            return np.zeros(2), {}

        def step(self, action):
            return np.zeros(2), 0.0, True, False, {}

    chunk, state, _ = chunk_of(Plain)
    told: list[str] = []
    chunk.tell = told.append
    ((_, _, sums),) = chunk([state], 1)
    assert float(sums.count) > 0 and told == []
    chunk.close()  # raises nothing


@pytest.mark.slow
def test_a_training_on_a_gymnasium_id_is_saved_evaluated_and_loads_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import s5wm
    from s5wm.experiments.run import run_experiment

    train = TrainConfig(
        num_envs=2, rollout_length=8, iterations_per_chunk=2, env_steps=64, eval_every=32, eval_episodes=2,
        checkpoint_every=32,
    )  # fmt: skip
    task = GymnasiumConfig(id="CartPole-v1", args=("sutton_barto_reward=true",))
    experiment = Experiment(task=task, agent=AGENT, train=train)
    assert run_experiment(experiment, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("compiling the training program (") == said.count("compiled in ") == 1
    more = replace(experiment, train=replace(train, env_steps=96))
    assert run_experiment(more, tmp_path / "run")  # goes on
    run = s5wm.Run(tmp_path / "run")
    assert [row["env_steps"] for row in run.metrics] == [32, 64, 96]
    assert all("smoothing_weight" not in row for row in run.metrics)  # there is one reward
    assert all("eval/success" not in row and row["eval/length"] > 0 for row in run.metrics)
    agent = s5wm.load(run)
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    action, _ = agent.act(obs, agent.init())
    assert env.action_space.contains(action)


class Pushed(Counter):
    action_space = gym.spaces.Box(-1.0, 0.7, (1,), np.float32)

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(float(action[0]))


def test_an_action_that_is_no_number_is_found_though_decoding_hides_it() -> None:
    chunk, state, _ = chunk_of(Pushed)
    ((_, _, sums),) = chunk([state], 1)
    assert int(sums.faults.action) == NEVER
    chunk.close()
    chunk, state, _ = chunk_of(Pushed)
    params = jax.tree.map(lambda x: x * np.nan, state.learner.params)
    broken = eqx.tree_at(lambda s: s.learner.params, state, params)
    ((_, _, sums),) = chunk([broken], 1)
    assert int(sums.faults.action) == 0
    chunk.close()


class Shifted(Counter):
    action_space = gym.spaces.Discrete(3, start=-1)


def test_actions_are_given_in_the_form_of_the_space() -> None:
    assert host_env(Shifted).give(np.array([0, 2])).tolist() == [-1, 1]
