"""CONTRIBUTING, "Add an environment", followed to the letter in a copy of the package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import s5wm

from ..conftest import ROUGH

MINE = '''
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.envs.task import AbstractTask
from s5wm.types import OptionalMetric, first_step, later_step


@dataclass(frozen=True, kw_only=True)
class BeamConfig(AbstractTask):
    """A ball on a beam that is to be brought to the middle."""

    steps: int = 8

    def build(self):
        return Beam(gain=jnp.asarray(0.3), steps=self.steps)

    @property
    def max_steps(self):
        return self.steps

    def success(self, metrics, returns):
        return (metrics["place"] < 0.5) & (returns > -100.0) & ~(metrics["middle_at"] > 7)


class BeamState(eqx.Module):
    place: jnp.ndarray
    steps: jnp.ndarray
    middle_at: jnp.ndarray


class Beam(AbstractEnv[BeamState]):
    gain: jnp.ndarray
    steps: int = eqx.field(static=True)

    @property
    def spec(self):
        return EnvSpec((1,), np.dtype(np.float32), action=Box((1,)), ctrl_dt=0.1)

    def reset(self, key):
        place = jr.uniform(key, minval=-1.0, maxval=1.0)
        return BeamState(place, jnp.zeros((), jnp.int32), jnp.asarray(-1, jnp.int32)), first_step(place[None])

    def step(self, state, action, key):
        place = jnp.clip(state.place + self.gain * action[0], -2.0, 2.0)
        steps = state.steps + 1
        is_there = (state.middle_at < 0) & (jnp.abs(place) < 0.1)
        state = BeamState(place, steps, jnp.where(is_there, steps, state.middle_at))
        return state, later_step(place[None], -jnp.abs(place), is_last=steps >= self.steps, is_terminal=False)

    def episode_metrics(self, state):
        return {
            "place": jnp.abs(state.place),
            "middle_at": OptionalMetric(state.middle_at.astype(jnp.float32), state.middle_at >= 0),
        }
'''

TINY = (
    "train.num_envs=4",
    "train.rollout_length=9",
    "train.eval_every=72",
    "train.eval_episodes=3",
    "agent.units=4",
    "agent.layers=1",
    "agent.minibatches=2",
    "task.steps=6",
)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of the package with the environment in it."""
    root = tmp_path_factory.mktemp("own")
    skip = shutil.ignore_patterns("__pycache__", "pretrained")
    copy = shutil.copytree(Path(s5wm.__file__).parent, root / "s5wm", ignore=skip)
    (copy / "envs" / "beam.py").write_text(MINE)
    for before, after in (
        ("TaskConfig = ", "TaskConfig = BeamConfig | "),
        ("] = {\n    **RACES", '] = {\n    "beam": BeamConfig,\n    **RACES'),
        ("from s5wm.envs.hover", "from s5wm.envs.beam import BeamConfig\nfrom s5wm.envs.hover"),
    ):
        text = (copy / "experiments" / "tasks.py").read_text()
        assert before in text
        (copy / "experiments" / "tasks.py").write_text(text.replace(before, after, 1))
    return root


def call(package: Path, *arguments: str) -> tuple[int, str, str]:
    environment = os.environ | ROUGH | {"PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "s5wm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package, timeout=900)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_an_added_environment_trains_is_judged_and_loads_again(package: Path) -> None:
    options = [word for item in TINY for word in ("--override", item)]
    train = ["train", "beam", "--agent", "ppo", "--run", "run", "--env-steps", "144", *options]
    code, out, err = call(package, *train, "--json")
    assert code == 0, err
    metrics = json.loads(out)
    assert metrics["episodes"] == 100 and metrics["steps_mean"] == 6.0
    assert 0.0 <= metrics["success_rate"] <= 1.0 and metrics["place_mean"] > 0.0
    rows = [json.loads(line) for line in (package / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("eval/success" in row for row in rows)
    code, out, err = call(package, "eval", "run", "--episodes", "5", "--json")
    assert code == 0, err
    assert json.loads(out)["config"]["task"] == {"type": "BeamConfig", "steps": 6}


@pytest.mark.slow
def test_it_is_checked_by_name(package: Path) -> None:
    code, out, err = call(package, "check-env", "beam", "--steps", "20")
    assert code == 0, err
    assert out.startswith("beam  no problem found\n") and "ppo" in out and "can train " in out
