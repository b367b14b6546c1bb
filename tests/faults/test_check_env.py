"""``check-env`` on environments that are wrong in every way, that hang, and that die."""

import functools as ft
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float, Shaped

from s5wm.actions import Box, Discrete
from s5wm.checkenv.agents import agents_on_gym, agents_on_jax
from s5wm.checkenv.child import Question, Report, check_in_child, make
from s5wm.checkenv.gymenv import check_gym
from s5wm.checkenv.jaxenv import check_jax
from s5wm.checkenv.seen import Seen
from s5wm.envs.adapters.gymnasium import host_env
from s5wm.envs.base import AbstractEnv
from s5wm.envs.probes import ActionReward
from s5wm.envs.wrappers import TimeLimit
from s5wm.errors import ConfigError
from s5wm.experiments.presets.sizes import AGENTS
from s5wm.types import EnvSpec, Key, TimeStep, first_step, later_step

from .conftest import Command

SOUND = """
import gymnasium as gym, numpy as np, os, time
class Sound(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}
    def look(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)
    def step(self, action):
        self.t += 1
        return self.look(), 0.0, False, self.t >= 10, {}
class Shape(Sound):
    def look(self): return np.zeros(3, np.float32)
class Dtype(Sound):
    def look(self): return np.zeros(2, np.float64)
class Far(Sound):
    def look(self): return np.full(2, 5.0, np.float32)
class Nan(Sound):
    def look(self): return np.full(2, np.nan, np.float32)
class Endless(Sound):
    def step(self, action): return self.look(), 0.0, False, False, {}
class Unbounded(Sound):
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
class Metrics(Sound):
    def step(self, action):
        return *super().step(action)[:4], {"metrics": {"mode": "fast", "path": np.zeros(3), "gain": np.float32(2)}}
class Misnamed(Sound):
    metadata = {"obs_names": ["place"]}
class Massive(Sound):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20, "obs_names": ["place", "speed"]}
    def __init__(self, mass): self.mass = mass
    def step(self, action):
        obs, _, terminated, truncated, _ = super().step(action)
        return obs, float(self.mass), terminated, truncated, {"is_success": True, "metrics": {"gain": 1}}
class Reward(Sound):
    def step(self, action): return self.look(), float("nan"), False, False, {}
class Flags(Sound):
    def step(self, action): return self.look(), 0.0, 0, None, []
class Four(Sound):
    def step(self, action): return self.look(), 0.0, False, {}
class OldReset(Sound):
    def reset(self, *, seed=None, options=None): return super().reset(seed=seed)[0]
class NoReset:
    observation_space, action_space = Sound.observation_space, Sound.action_space
    def step(self, action): ...
class Keys(Sound):
    observation_space = gym.spaces.Dict({"a": Sound.observation_space, "b": Sound.observation_space})
    def look(self): return {"a": np.zeros(2, np.float32), "c": np.zeros(2, np.float32)}
class Dice(Sound):
    def look(self): return np.frombuffer(os.urandom(2), np.uint8).astype(np.float32) / 255
class Raises(Sound):
    def step(self, action): raise RuntimeError("motor on fire")
class Hangs(Sound):
    def step(self, action): time.sleep(1000)
class Dies(Sound):
    def step(self, action): os.kill(os.getpid(), 9)
class Pair(Sound):
    observation_space = gym.spaces.Tuple((Sound.observation_space, gym.spaces.Discrete(4)))
    def look(self): return super().look(), int(self.np_random.integers(4))
class BadPair(Pair):
    def look(self): return super().look()[0], 7
class Chatty(Sound):
    def __init__(self): os.write(1, b"loading ... ")
    def close(self): os.write(1, b"closing ... ")
class OneChoice(Sound):
    action_space = gym.spaces.MultiDiscrete([3, 1])
class Quits(Sound):
    def step(self, action): raise SystemExit(0)
class Quits2(Sound):
    def step(self, action): raise SystemExit(2)
class CloseRaises(Sound):
    def close(self): raise RuntimeError("still running")
class DiesOnce(Sound):
    def step(self, action):
        if not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), 9)
        return super().step(action)
"""

WRONG = {
    "Endless": "no episode ended in 10,000 steps",
    "Misnamed": "obs_names has 1 names, and the observation 2 numbers",
    "Unbounded": "no agent can train on it",
    "BadPair": "part 1, lies outside its space",
    "OneChoice": "no agent can train on it",
    "Quits": "its process ended with 0 in step, in 4 of 4 tries",
    "Metrics": "info['metrics']['path'] is an array of shape (3,), not a number",
    "Shape": "shape (3,), its space (2,)",
    "Dtype": "float64, its space float32",
    "Far": "outside its space",
    "Nan": "is not finite",
    "Reward": "a reward is not finite",
    "Flags": "truncated is NoneType, not bool",
    "Four": "step does not return (observation, reward, terminated, truncated, info)",
    "OldReset": "reset does not return (observation, info)",
    "NoReset": "it has no reset",
    "Keys": "other keys than its space: b, c",
    "Dice": "two resets with one seed give different observations",
    "Raises": "step raised RuntimeError('motor on fire')",
    "Hangs": "step did not return within 20 s",
    "Dies": "its process died with SIGKILL in step, in 4 of 4 tries",
    "Quits2": "its process ended with 2 in step, in 4 of 4 tries",
    "CloseRaises": "close raised RuntimeError('still running')",
    "DiesOnce": "its process died with SIGKILL in step, in 1 of 2 tries",
}


def check(command: Command, spec: str, *more: str) -> tuple[int, str]:
    process = command.start("check-env", spec, "--steps", "30", *more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


@pytest.fixture(autouse=True)
def module(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    (tmp_path / "mine.py").write_text(SOUND)


@pytest.mark.slow
def test_a_sound_environment_passes_and_each_agent_is_judged(command: Command) -> None:
    code, said = check(command, "toy/double-integrator", "--env-timeout", "250")
    assert code == 0 and said.startswith("toy/double-integrator  no problem found\n")
    assert said.splitlines()[-1].split(maxsplit=2) == ["can", "train", ", ".join(AGENTS)]
    code, said = check(command, "mine:Sound", "--json", "--env-timeout", "250")
    assert code == 0
    report = json.loads(said)
    assert report["sound"] and set(report["agents"]) == set(AGENTS)
    trains = {name: verdict["trains"] for name, verdict in report["agents"].items()}
    assert trains["s5wm"] and trains["ppo"] and not trains["s5wm-p"]
    assert "no privileged vector" in report["agents"]["ppo-asymmetric"]["why"]


def said_in_child(spec: str, **more: Any) -> Report:
    return check_in_child(Question(spec=spec, steps=30, **more), timeout=250.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Pair", "Chatty"])
def test_tuples_and_noise_are_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    # Loading JAX takes longer than a step may.
    found = check_in_child(Question(spec=f"mine:{name}", steps=30), timeout=5.0)
    assert found.problems == [] and found.agents["s5wm"] == ""


@pytest.mark.slow
def test_what_the_environment_is_like_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = said_in_child("mine:Massive", env_args=("mass=2.5",))
    assert not found.problems
    assert found.facts == {
        "observation": "2 numbers",
        "names": "place, speed",
        "action": "1 number in [-1, 1]",
        "step": "0.05 s",
        "episodes": "ended after 10 steps",
        "rewards": "2.5 with random actions",
        "reports": "return, length, gain, success",
        "renders": "pictures, as s5wm eval --video needs them",
    }
    with pytest.raises(ConfigError, match="missing a required argument: 'mass'.*--env-arg NAME=VALUE"):
        said_in_child("mine:Massive")
    limited = said_in_child("gymnasium:Pendulum-v1").facts["episodes"]
    assert limited == "at most 200 steps"  # it is not stepped until it ends


class Walk(AbstractEnv[Array]):
    """A random walk without an end."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec((1,), np.dtype(np.float32), Box(), ctrl_dt=0.1)

    def reset(self, key: Key) -> tuple[Array, TimeStep]:
        place = jr.normal(key, (1,))
        return place, first_step(place)

    def step(
        self, state: Array, action: Shaped[Array, "..."], key: Key
    ) -> tuple[Float[Array, " 1"], TimeStep]:
        place = state + action
        return place, later_step(
            place, place[0], is_last=jnp.zeros((), bool), is_terminal=jnp.zeros((), bool)
        )


@pytest.mark.slow
def test_an_environment_in_jax_that_never_ends_is_told() -> None:
    seen = Seen(None)
    assert not list(check_jax(Walk(), 20, lambda _: None, Seen(500)))
    assert "no episode ended in 10,000 steps" in " ".join(check_jax(Walk(), 20, lambda _: None, seen))
    assert not seen.lengths
    limited = TimeLimit(Walk(), 30)
    assert not list(check_jax(limited, 20, lambda _: None, seen))
    assert seen.lengths == [30]


def test_what_each_agent_cannot_do_with_is_told() -> None:
    class Env(ActionReward):
        shown: EnvSpec = eqx.field(static=True)

        @property
        def spec(self) -> EnvSpec:
            return self.shown

    def judged(*, is_task: bool = True, **changes: object) -> dict[str, str]:
        return agents_on_jax(Env(replace(ActionReward().spec, **changes)), is_task).misfits

    assert set(judged().values()) == {""}
    assert set(judged(is_task=False).values()) == {""}
    assert "no privileged vector" in judged(privileged_size=0)["dreamerv3-p"]
    pictures = judged(obs_shape=(64, 64, 3), obs_dtype=np.dtype(np.uint8))
    assert "reads vectors, but this task shows images" in pictures["ppo"] and pictures["s5wm-p"] == ""
    assert "agents read vectors [n] or images" in judged(obs_shape=(4, 4))["ppo"]
    assert set(judged(action=Discrete(3), is_task=False).values()) == {""}


def test_gymnasium_environments_are_for_those_who_read_what_they_show() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    verdicts = agents_on_gym(gymnasium.make("CartPole-v1")).misfits
    assert {name for name, why in verdicts.items() if not why} == {"s5wm", "dreamerv3", "ppo"}
    taxi = gymnasium.make("Blackjack-v1")  # a tuple of choices
    assert agents_on_gym(taxi).misfits["s5wm"] == ""


def test_what_is_checked_is_what_is_trained_on() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    name = "StackedCartPole-v0"

    def stacked(**options: Any) -> Any:
        made = gymnasium.make("CartPole-v1", max_episode_steps=-1, **options)
        return gymnasium.wrappers.FrameStackObservation(made, 3)

    gymnasium.register(name, entry_point=stacked, max_episode_steps=7)
    try:
        env, limit = make(Question(spec=f"gymnasium:{name}", steps=9))
        assert limit == 7
        assert env.observation_space.shape == (3, 4)
        seen = Seen(limit)
        assert not list(check_gym(env, 9, lambda _: None, seen))
        assert agents_on_gym(env).spec == host_env(ft.partial(gymnasium.make, name)).spec
        assert seen.lengths == [7]
        assert "TimeLimit" in str(env)
    finally:
        del gymnasium.registry[name]


@pytest.mark.faults
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_told(command: Command, name: str) -> None:
    code, said = check(command, f"mine:{name}", "--env-timeout", "20")
    assert code == 1
    assert WRONG[name] in said


@pytest.mark.slow
def test_what_does_not_exist_is_a_matter_of_usage(command: Command) -> None:
    code, said = check(command, "mine:Nothing")
    assert code == 2
    assert "no environment 'mine:Nothing'" in said
