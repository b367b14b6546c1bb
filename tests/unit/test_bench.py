"""Timings: the parts that are timed are the ones that train, and all are there."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from s5wm.actions import Box, Discrete
from s5wm.bench.agents import dreamer_configs
from s5wm.bench.env import _sum_of, time_env
from s5wm.bench.hosted import time_hosted
from s5wm.bench.inference import time_policies
from s5wm.bench.loop import time_trainings
from s5wm.bench.uncached import uncached
from s5wm.bench.update import MIN_SAMPLES, PARTS, filled_learner, speedups, time_updates
from s5wm.cli import main
from s5wm.envs.adapters.tasks import GymnasiumConfig
from s5wm.envs.base import AbstractEnv
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.presets import preset
from s5wm.training.config import TrainConfig
from s5wm.types import EnvSpec, first_step, later_step

from ..tiny import DREAMERV3, PPO, S5WM

SPEC = EnvSpec(
    (3,), np.dtype(np.float32), privileged_size=2, action=Box((1,)), ctrl_dt=0.02, has_smoothing=True
)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [PARTS[:1], pytest.param(PARTS[1:], marks=pytest.mark.faults)])
def test_updates_are_timed_side_by_side(parts):
    # One configuration under both names: its programs are compiled once.
    timings = time_updates({"s5wm": S5WM, "dreamerv3": S5WM}, SPEC, parts=parts, seconds=0.0, key=jr.key(0))
    assert list(timings) == ["s5wm", "dreamerv3"]
    for own in timings.values():
        assert own["params"] > own["world_model_params"] > 0
        for part in parts:
            samples = own[f"{part}_samples_ms"]
            assert len(samples) >= MIN_SAMPLES
            assert own[f"{part}_ms"] == pytest.approx(float(np.median(samples)))
            assert own[f"{part}_compile_s"] > own[f"{part}_ms"] / 1000
    ratios = speedups(timings)
    assert set(ratios["dreamerv3"].values()) == {1.0}
    last = parts[-1]
    expected = timings["dreamerv3"][f"{last}_ms"] / timings["s5wm"][f"{last}_ms"]
    assert ratios["s5wm"][f"speedup_{last}"] == pytest.approx(expected)


def test_the_timed_replay_is_full_of_episodes():
    learner = filled_learner(S5WM.build(SPEC, num_envs=32), jr.key(1))
    rows = learner.replay.rows.timestep
    assert int(learner.replay.filled) == 32
    assert 0 < int(rows.is_last.sum()) < rows.is_last.size
    np.testing.assert_array_equal(rows.is_first[:, 1:], rows.is_last[:, :-1])
    assert float(jnp.abs(rows.obs).min(axis=(0, 1)).max()) < 1.0 < float(jnp.abs(rows.obs).max())


def test_a_policy_step_is_timed():
    timed = time_policies({"dreamerv3": DREAMERV3}, SPEC, steps=20)["dreamerv3"]
    assert len(timed["samples_ms"]) == 20
    assert 0 < timed["p50_ms"] <= timed["p99_ms"] <= timed["max_ms"]


@pytest.mark.slow
@pytest.mark.parametrize("agent", [PPO, pytest.param(S5WM, marks=pytest.mark.faults)])
def test_the_loop_is_timed_once_it_learns(agent):
    train = TrainConfig(num_envs=2, rollout_length=4, iterations_per_chunk=1)
    experiment = Experiment(task=DoubleIntegratorConfig(), agent=agent, train=train)
    timed = time_trainings({"it": experiment}, chunks=3)["it"]
    assert len(timed["iteration_samples_s"]) == 3
    updates = 2 if agent is PPO else 1  # of eight steps
    assert timed["env_steps_per_s"] == pytest.approx(8 * timed["updates_per_s"] / updates)
    shares = [value for name, value in timed.items() if name.startswith("share_")]
    assert sum(shares) == pytest.approx(1.0)
    assert timed["share_collect"] > 0 and (timed["share_world_model"] > 0) == (agent is S5WM)


@pytest.mark.faults
def test_the_loop_of_seeds_together_is_timed_as_all_of_them():
    train = TrainConfig(num_envs=2, rollout_length=4, iterations_per_chunk=1)
    experiment = Experiment(task=DoubleIntegratorConfig(), agent=S5WM, train=train)
    timed = time_trainings({"s5wm": experiment}, chunks=3, seeds=2)["s5wm"]
    seconds = sorted(timed["iteration_samples_s"])[1]
    assert timed["env_steps_per_s"] == pytest.approx(2 * 2 * 4 / seconds)
    assert timed["env_steps_per_s"] == pytest.approx(8 * timed["updates_per_s"])


def test_environments_with_choices_and_bounds_of_their_own_are_timed(monkeypatch):
    seen = []

    class Env(AbstractEnv):
        action: Discrete | Box = eqx.field(static=True)

        @property
        def spec(self):
            return EnvSpec((2,), np.dtype(np.float32), action=self.action, ctrl_dt=0.02)

        def reset(self, key):
            return jnp.zeros(()), first_step(jnp.zeros(2))

        def step(self, state, action, key):
            seen.append((action.shape, action.dtype))
            return state + 1.0, later_step(jnp.zeros(2), state, is_last=False, is_terminal=False)

    for action in (Discrete(3), Box((2,), low=0.0, high=5.0)):
        monkeypatch.setattr("s5wm.bench.env.make", lambda task, action=action: Env(action))
        assert time_env("x", num_envs=2, steps=3, repeats=2)["env_steps_per_s"] > 0.0
    assert set(seen) == {((), jnp.dtype(jnp.int32)), ((2,), jnp.dtype(jnp.float32))}


def test_every_number_of_a_time_step_is_waited_for():
    timestep = later_step(jnp.ones(2), jnp.ones(()), is_last=True, is_terminal=False, privileged=jnp.ones(3))
    assert float(_sum_of(timestep)) == 7.0


def test_what_is_timed_is_compiled_whatever_was_kept(tmp_path):
    wanted = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_enable_compilation_cache": True,
    }
    before = {name: getattr(jax.config, name) for name in wanted}

    def kept(number):
        jax.jit(lambda x: x * number)(jnp.ones(3)).block_until_ready()
        return len(list(tmp_path.iterdir()))

    try:
        for name, value in wanted.items():
            jax.config.update(name, value)
        reset_cache()
        first = kept(2.0)
        assert first > 0
        with uncached():
            assert kept(3.0) == first
        assert kept(4.0) > first
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


def test_presets_are_resized_for_a_timing():
    config = dreamer_configs(["s5wm"], "cpu", "race/split-s", batch=4, length=8)["s5wm"]
    assert (config.replay.batch, config.replay.length) == (4, 8)
    assert config.actor_critic == preset("race/split-s").agent.actor_critic
    few = dreamer_configs(["s5wm"], "cpu", "race/split-s", batch=1, length=8)["s5wm"]
    assert few.actor_critic.num_imagination_starts == 8  # there are no more
    assert dreamer_configs(["s5wm"], "cpu", "hover", length=2048)["s5wm"].replay.capacity > 2048
    with pytest.raises(
        ConfigError, match="'ppo' has no world model to time; choose of s5wm, s5wm-p, dreamerv3"
    ):
        dreamer_configs(["ppo"], "cpu", "hover")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["update", "--length", "0"], "--length is 0"),
        (["update", "--agents", "s6wm"], "unknown agent 's6wm'"),
        (["inference", "--size", "2m"], "unknown size '2m'"),
        (["loop", "--repeats", "0"], "--repeats is 0"),
        (["loop", "--seeds", "0"], "--seeds is 0"),
    ],
)
def test_odd_timings_are_refused(arguments, says, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["bench", *arguments])
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err


def test_a_policy_without_a_world_model_is_timed_beside_one(capsys):
    agents = ["s5wm", "ppo", "ppo-asymmetric"]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "inference", "--task", "hover", "--agents", *agents, "--steps", "5", "--json"])
    assert exit_.value.code == 0
    timed = json.loads(capsys.readouterr().out)["agents"]
    assert list(timed) == agents
    for own in timed.values():
        assert len(own["samples_ms"]) == 5 and 0.0 < own["p50_ms"] <= own["max_ms"] and own["params"] > 1000


def test_images_are_timed_as_images():
    spec = replace(SPEC, obs_shape=(16, 16, 3), obs_dtype=np.dtype(np.uint8))
    config = dreamer_configs(["s5wm-p"], "cpu", "race/figure-8", batch=2, length=4)["s5wm-p"]
    assert config.world_model.target == "privileged"
    frames = filled_learner(config.build(spec, num_envs=2), jr.key(0)).replay.rows.timestep.obs
    assert frames.dtype == np.uint8
    assert 100 < float(frames.mean()) < 155


@pytest.mark.slow
@pytest.mark.parametrize("learn", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_host_environments_are_timed_beside_gymnasium_s_own(learn: bool) -> None:
    train = TrainConfig(num_envs=2, rollout_length=8)
    task = GymnasiumConfig(id="CartPole-v1")
    agent = replace(S5WM, actor_critic=replace(S5WM.actor_critic, gradient="reinforce"))
    timed = time_hosted(Experiment(task=task, agent=agent, train=train), steps=16, repeats=2, learn=learn)
    ways = ("gymnasium", "processes", "collect", *(("train", "overlap") if learn else ()))
    assert tuple(timed["env_steps_per_s"]) == tuple(timed["samples"]) == ways
    assert all(len(values) == 2 and min(values) > 0 for values in timed["samples"].values())
    assert timed["of_gymnasium"]["gymnasium"] == 1.0
    with pytest.raises(ConfigError, match="environments of Gymnasium"):
        time_hosted(Experiment(agent=agent), steps=1, repeats=1)
