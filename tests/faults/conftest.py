"""Runs small enough to be killed by the dozen, as commands and inside the test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = (
    *("train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_every=128"),
    *("train.eval_episodes=2", "train.checkpoint_every=64", "task.steps=10"),
    *("agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
)


class Command:
    """The command line in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(p for p in (str(folder), *sys.path) if p),
            "JAX_PLATFORMS": "cpu",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "s5wm", *arguments]
        pipe = subprocess.PIPE
        whole = self.environment | environment
        return subprocess.Popen(command, env=whole, stdout=pipe, stderr=pipe, text=True, cwd=self.folder)

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Exit code, and all it said."""
        out, err = (process := self.start(*arguments, **environment)).communicate(timeout=300)
        assert "Traceback" not in err, err
        return process.returncode, out + err

    def train(self, run: Path, *, env_steps: int, more: tuple[str, ...] = ()) -> list[str]:
        """Arguments of a tiny training."""
        options = [word for item in (*TINY, *more) for word in ("--override", item)]
        budget = ["--env-steps", str(env_steps), "--run", str(run)]
        return ["train", "toy/double-integrator", "--agent", "ppo", *budget, *options]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)
