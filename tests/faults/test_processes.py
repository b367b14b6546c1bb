"""Several processes train as one does; when one dies the others end, and the run goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s5wm.runs.log import read_rows

from .conftest import Command

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.fixture
def address() -> str:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


ComplexPair = list["subprocess.Popen[str]"]


@contextmanager
def both(command: Command, address: str, run: Path, more: tuple[str, ...] = ()) -> Generator[ComplexPair]:
    """Two processes with two devices each, the leading one first, that train without end."""
    how = command.train(run, env_steps=10**9, more=("train.num_envs=8", *more))
    how += ["--coordinator", address, "--processes", "2", "--process"]
    pair = [command.start(*how, str(process), **TWO_DEVICES) for process in range(2)]
    try:
        yield pair
    finally:
        for process in pair:
            process.kill()
            process.communicate()


def wait_for(there: Callable[[], bool], pair: ComplexPair, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        assert all(process.poll() is None for process in pair)
        time.sleep(0.1)


def test_two_processes_train_as_one_does(tmp_path: Path, address: str) -> None:
    def start(run: str, env_steps: int, processes: int, process: int) -> subprocess.Popen[str]:
        environment = os.environ | TWO_DEVICES
        environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        words = [str(tmp_path / run), str(env_steps), address, str(processes), str(process)]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.in_processes", *words],
            env=environment,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(started: list[subprocess.Popen[str]]) -> str:
        said = [process.communicate(timeout=300)[1] for process in started]
        assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)
        return said[0]

    end([start("alone", 256, 1, 0)])
    end([start("together", 128, 1, 0)])
    assert "going on at 128" in end([start("together", 256, 2, process) for process in range(2)])
    alone, together = (read_rows(tmp_path / run / "metrics.jsonl") for run in ("alone", "together"))
    assert [row["env_steps"] for row in together] == [128, 256]
    for one, two in zip(alone, together, strict=True):
        told = [name for name in one if name.startswith(("episode/", "loss/", "latent/", "eval/"))]
        assert "loss/decoder" in told
        assert [two[name] for name in told] == pytest.approx([one[name] for name in told], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("killed", [0, 1], ids=["the leading one", "another"])
def test_when_a_process_is_killed_the_other_ends_and_the_run_goes_on(
    command: Command, tmp_path: Path, address: str, killed: int
) -> None:
    run = tmp_path / "run"
    with both(command, address, run) as pair:
        wait_for(lambda: any((run / "checkpoints").glob("[0-9]*")), pair)
        pair[killed].kill()
        pair[1 - killed].communicate(timeout=60)
        assert pair[1 - killed].returncode not in (0, None)
    goes_on(command, run)


def test_when_the_leading_process_refuses_the_other_ends(
    command: Command, tmp_path: Path, address: str
) -> None:
    run = tmp_path / "run"
    assert command.run(*command.train(run, env_steps=64))[0] == 0
    with both(command, address, run, more=("agent.units=5",)) as pair:
        _, said = pair[0].communicate(timeout=60)
        assert pair[0].returncode == 2 and "agent.units" in said
        pair[1].communicate(timeout=60)
        assert pair[1].returncode not in (0, None)


def test_a_signal_to_one_of_them_stops_all(command: Command, tmp_path: Path, address: str) -> None:
    run = tmp_path / "run"
    log = run / "metrics.jsonl"
    with both(command, address, run) as pair:
        wait_for(lambda: log.is_file() and log.read_text() != "", pair)
        pair[1].send_signal(signal.SIGTERM)
        for process in pair:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 75, err
    goes_on(command, run)


def test_processes_that_cannot_be_are_refused(command: Command, tmp_path: Path) -> None:
    start = command.train(tmp_path / "run", env_steps=64)
    for more, says in (
        (["--coordinator", "127.0.0.1:1"], "needs --processes and --process"),
        (["--coordinator", "127.0.0.1:1", "--processes", "2", "--process", "2"], "they count from 0 to 1"),
        (["--coordinator", "localhost"], "it must be HOST:PORT"),
        (["--coordinator", "auto", "--process", "1"], "leave out --processes and --process"),
        (["--processes", "2"], "--coordinator"),
    ):
        code, said = command.run(*start, *more)
        assert code == 2 and says in said


def goes_on(command: Command, run: Path) -> None:
    """One process, from where several stopped."""
    saved = max(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))
    more = command.train(run, env_steps=saved + 128, more=("train.num_envs=8",))
    code, said = command.run(*more)
    assert code == 0, said
    assert f"going on at {saved:,} environment steps" in said
