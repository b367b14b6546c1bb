"""Processes that environments begin end with them, however they end."""

import functools as ft
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from s5wm.checkenv.child import Question, check_in_child
from s5wm.envs.adapters.gymnasium import Hosting, host_env
from s5wm.envs.adapters.makers import call_factory
from s5wm.errors import ConfigError, EnvironmentFailedError

from .children import simulators
from .fragile import is_alive

HERE = Path(__file__).parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


@pytest.fixture(autouse=True)
def from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))


def all_end(folder: Path, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    assert simulators(folder)
    while any(map(is_alive, simulators(folder))) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_alive, simulators(folder)))


def envs_of(folder: Path, *args: str, **hosting):
    make = ft.partial(call_factory, "children:Simulated", (f"folder={folder}", *args))
    env = host_env(make, Hosting(processes=True, **hosting))
    assert all_end(folder)  # the one that was looked at
    return env.open(1)


@linux
@pytest.mark.slow
def test_a_simulator_hears_the_sigterm_of_its_environment(tmp_path: Path) -> None:
    envs = envs_of(tmp_path)
    envs.reset(0)
    (living,) = [pid for pid in simulators(tmp_path) if is_alive(pid)]
    handled = Path(f"/proc/{living}/status").read_text()
    (ignored,) = [line.split()[1] for line in handled.splitlines() if line.startswith("SigIgn")]
    assert not int(ignored, 16) & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1))
    envs.close()
    assert all_end(tmp_path, seconds=0.0)


@linux
@pytest.mark.slow
def test_simulators_end_with_their_worker(tmp_path: Path) -> None:
    envs = envs_of(tmp_path, "hangs=step", timeout=1.0, failures=1)
    envs.reset(0)
    with pytest.raises(EnvironmentFailedError, match="environment 0 failed 2 times in a row.*within 1 s"):
        for _ in range(3):
            envs.step(np.zeros(1, np.int64))
    envs.close()
    assert all_end(tmp_path)


UNGUARDED = """
import sys
import s5wm
s5wm.train("children:Simulated", agent="ppo", run="run", env_steps=64, env_args=["folder=."],
           overrides=["task.processes=true", "train.num_envs=1"])
"""


@linux
@pytest.mark.slow
def test_a_script_without_a_guard_is_named_and_not_its_environment(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 1
    assert "ConfigError: s5wm.train is called while a process for an environment imports" in ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert "ConfigError: a process for an environment ended with exit code 1" in last
    assert "if __name__ == '__main__':" in last
    assert not (tmp_path / "run" / "environment-failure.txt").exists()


@linux
@pytest.mark.slow
def test_simulators_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    overrides = ("--override", "task.processes=true", "--override", "train.num_envs=1")
    args = ("--env-arg", f"folder={tmp_path}", "--env-arg", "hangs=step", *overrides)
    train = ("train", "children:Simulated", "--agent", "ppo", "--run", str(tmp_path / "run"))
    command = [sys.executable, "-m", "s5wm", *train, *args]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as training:
        try:
            until = time.monotonic() + 300
            while not any(map(is_alive, simulators(tmp_path))) or len(simulators(tmp_path)) < 2:
                assert training.poll() is None and time.monotonic() < until
                time.sleep(0.2)
        finally:
            training.kill()
    assert all_end(tmp_path)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("hangs", ["", pytest.param("step", marks=pytest.mark.faults), "close"])
def test_check_env_closes_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    monkeypatch.chdir(tmp_path)
    args = (f"folder={tmp_path}", f"hangs={hangs}")
    found = check_in_child(Question(spec="children:Simulated", steps=12, env_args=args), timeout=15.0)
    assert found.problems == ([f"{hangs} did not return within 15 s"] if hangs else [])
    assert all_end(tmp_path)


@pytest.mark.faults
def test_an_environment_that_ends_its_process_as_usage_errors_do_has_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quits.py").write_text(
        "from children import Simulated\n"
        "class Quits(Simulated):\n"
        "    def step(self, action): raise SystemExit(2)\n"
    )
    found = check_in_child(
        Question(spec="quits:Quits", steps=12, env_args=(f"folder={tmp_path}",)), timeout=60.0
    )
    assert found.problems == ["its process ended with 2 in step, in 4 of 4 tries"]
    with pytest.raises(ConfigError, match="no environment 'quits:Nothing'"):
        check_in_child(Question(spec="quits:Nothing", steps=12), timeout=60.0)
