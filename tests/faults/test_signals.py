"""Signals to the command: one saves and exits 75, two exit at once; a killed run leaves no lock behind."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from s5wm.runs.checkpoint import Checkpoints
from s5wm.runs.log import read_rows

from .conftest import Command

pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """The command hears the end of its terminal, also where the tests were started to outlive theirs."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def begun(command: Command, run: Path) -> "subprocess.Popen[str]":
    """A training that has logged its first row."""
    process = command.start(*command.train(run, env_steps=10**9))
    wait_for_a_row(run)
    return process


def wait_for_a_row(run: Path) -> None:
    deadline = time.monotonic() + 280
    while time.monotonic() < deadline and not (run / "metrics.jsonl").is_file():
        time.sleep(0.05)
    while time.monotonic() < deadline and not (run / "metrics.jsonl").read_text().strip():
        time.sleep(0.05)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1], ids=lambda n: n.name
)
def test_one_signal_saves_and_exits_75(command: Command, tmp_path: Path, number: signal.Signals) -> None:
    process = begun(command, tmp_path / "run")
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert time.monotonic() - sent < 10
    assert f"{number.name}: finishing this chunk" in err
    assert "s5wm resume" in err
    assert valid_checkpoint(tmp_path / "run")


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


def valid_checkpoint(run: Path) -> bool:
    return Checkpoints(run / "checkpoints", keep=1).newest(pytest.fail) is not None


@contextmanager
def writing_to(
    command: Command, run: Path, stderr: Any, **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """A training that has logged its first row, and says what it says there."""
    arguments = [sys.executable, "-m", "s5wm", *command.train(run, env_steps=10**9)]
    with subprocess.Popen(
        [*options.pop("wrapper", ()), *arguments], env=command.environment, stderr=stderr, **options
    ) as process:
        try:
            wait_for_a_row(run)
            yield process
        finally:
            process.kill()


def test_a_reader_that_goes_away_and_a_full_disk_cost_no_checkpoint(command: Command, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with writing_to(command, tmp_path / "pipe", writer) as process:
        os.close(writer)
        os.close(reader)  # as tee, which Ctrl-C ends too
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 75
    with open("/dev/full", "wb") as full, writing_to(command, tmp_path / "full", full) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 75
    assert valid_checkpoint(tmp_path / "pipe") and valid_checkpoint(tmp_path / "full")


def lead() -> None:
    """Begin a session, of the terminal that standard error is."""
    os.setsid()
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


def test_a_terminal_that_closes_saves_and_nohup_goes_on_without_it(command: Command, tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    with writing_to(command, tmp_path / "run", terminal, preexec_fn=lead) as process:
        os.close(terminal)
        os.close(master)
        assert process.wait(timeout=60) == 75
    assert valid_checkpoint(tmp_path / "run")
    run = tmp_path / "nohup"
    with writing_to(command, run, subprocess.DEVNULL, wrapper=("nohup",)) as process:
        process.send_signal(signal.SIGHUP)
        before = len(read_rows(run / "metrics.jsonl"))
        time.sleep(3.0)
        assert process.poll() is None and len(read_rows(run / "metrics.jsonl")) > before
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 75


def test_a_terminal_that_closes_stops_a_sweep_which_prints_its_table_there(
    command: Command, tmp_path: Path
) -> None:
    arguments = command.train(tmp_path / "unused", env_steps=10**9)[1:]
    place = arguments.index("--run")
    arguments[place : place + 2] = ["--out", str(tmp_path / "sweep")]
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "s5wm", "sweep", *arguments],
        env=command.environment,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lead,
    ) as process:
        try:
            wait_for_a_row(tmp_path / "sweep" / "s0")
            os.close(terminal)
            os.close(master)
            assert process.wait(timeout=60) == 75
        finally:
            process.kill()
    assert valid_checkpoint(tmp_path / "sweep" / "s0")


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
