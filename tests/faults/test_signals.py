"""Signals to the command: one saves and exits 75, two exit at once; a killed run leaves no lock behind."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from s5wm.runs.checkpoint import Checkpoints

from .conftest import Command

pytestmark = pytest.mark.faults


def begun(command: Command, run: Path, more: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """A training that has logged its first row."""
    process = command.start(*command.train(run, env_steps=10**9, more=more))
    deadline = time.monotonic() + 280
    while time.monotonic() < deadline and not (run / "metrics.jsonl").is_file():
        time.sleep(0.05)
    while time.monotonic() < deadline and not (run / "metrics.jsonl").read_text().strip():
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda n: n.name)
def test_one_signal_saves_and_exits_75(command: Command, tmp_path: Path, number: signal.Signals) -> None:
    process = begun(command, tmp_path / "run")
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert time.monotonic() - sent < 10
    assert f"{number.name}: finishing this chunk" in err
    assert "s5wm resume" in err
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", keep=1)
    assert checkpoints.newest(pytest.fail) is not None


def test_a_second_signal_exits_at_once_even_inside_a_chunk(command: Command, tmp_path: Path) -> None:
    # A chunk of minutes, in which Python itself runs no handler.
    process = command.start(
        *command.train(tmp_path / "run", env_steps=10**9, more=("train.iterations_per_chunk=2000000",))
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("compiled"):
        assert process.poll() is None
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("SIGTERM: finishing this chunk")
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert time.monotonic() - sent < 1
    process.communicate()


def test_ctrl_c_before_there_is_anything_to_save_is_told_in_one_line(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n\n\ndef make():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)\n"
    )
    code, said = command.run("train", "slow:make", "--run", str(tmp_path / "run"))
    assert code == 130, said
    assert said.startswith("s5wm: stopped by Ctrl-C"), said
    assert len(said.splitlines()) == 1, said


SLOW = """
import time

import gymnasium
import numpy as np


class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        time.sleep(STEP)
        return np.zeros(2, np.float32), 0.0, False, False, {}
"""


def told(process: "subprocess.Popen[str]", beginning: str) -> None:
    """Wait until it says a line that begins so."""
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith(beginning):
        assert line, f"it ended, and never said {beginning!r}"


@pytest.mark.parametrize("kind", ["jax", "gymnasium", "first rollout"])
def test_ctrl_c_while_the_first_program_compiles_ends_the_command(
    command: Command, tmp_path: Path, kind: str
) -> None:
    arguments = ["hover", "--run", str(tmp_path / "run")]
    if kind != "jax":
        (tmp_path / "slow.py").write_text(SLOW.replace("STEP", "0.3" if kind == "first rollout" else "0.0"))
        arguments[0] = "slow:Slow"
    process = command.start("train", *arguments, S5WM_CACHE="off", JAX_ENABLE_COMPILATION_CACHE="false")
    told(
        process, "collecting the first rollout: 10 s" if kind == "first rollout" else "compiling the training"
    )
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - sent < 3
    assert err.strip() == "SIGINT: stopped with nothing new to save; the same command starts it again"


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(command: Command, tmp_path: Path) -> None:
    process = begun(command, tmp_path / "run")
    code, said = command.run("resume", str(tmp_path / "run"))
    assert (code, f"in use by process {process.pid}" in said) == (73, True)
    process.kill()
    process.communicate()
    arguments = command.train(tmp_path / "run", env_steps=64)
    code, said = command.run(*arguments)
    assert code == 0, said
