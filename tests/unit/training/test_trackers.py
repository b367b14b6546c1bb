"""Trackers are told every row once, over interruptions too, and can neither begin unasked nor end a training."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from s5wm.errors import ConfigError
from s5wm.experiments import trackers
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.experiments.run import How, run_experiment
from s5wm.experiments.trackers import RECORD, Tracker, TrackerError, check_trackers, open_trackers
from s5wm.runs.directory import RunDirectory

from .conftest import with_steps


class FakeRun:
    def __init__(self, module: "Fake", options: dict[str, Any]) -> None:
        self.module, self.options, self.rows, self.is_finished = module, options, [], False

    def log(self, row: dict[str, float], step: int) -> None:
        self.module.fail("no connection")
        self.rows.append((step, row))

    def finish(self) -> None:
        self.module.fail("no answer")
        self.is_finished = True


class Fake(ModuleType):
    """Weights & Biases, or trackio, as far as they are used."""

    class Error(Exception):
        pass

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.runs: list[FakeRun] = []
        self.failure: type[Exception] | None = None

    def fail(self, text: str) -> None:
        if self.failure is not None:
            raise self.failure(text)

    def init(self, **options: Any) -> FakeRun:
        self.fail("no key")
        self.runs.append(FakeRun(self, options))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Fake:
    module = Fake("wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def directory(tmp_path: Path, tiny: Experiment) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    save_experiment(directory.config, tiny)
    return directory


@pytest.mark.usefixtures("one_compile_for_all")
def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker(
    tiny: Experiment, tmp_path: Path, wandb: Fake
) -> None:
    path = tmp_path / "runs" / "tracked"
    assert run_experiment(with_steps(tiny, 128), path, How(trackers=("wandb",)))
    assert run_experiment(tiny, path)  # it keeps the trackers that it had
    first, second = wandb.runs
    assert (
        first.options["id"] == second.options["id"] == json.loads((path / RECORD).read_text())["wandb"]["id"]
    )
    assert second.options["resume"] == "allow" and second.options["name"] == "runs/tracked"
    assert first.options["config"]["experiment"]["agent"]["units"] == 4
    assert [step for step, _ in first.rows] == [64, 128]
    assert [step for step, _ in second.rows] == [192, 256]
    assert "eval/success" in second.rows[-1][1] and "loss/policy" in second.rows[0][1]
    assert first.is_finished and second.is_finished


def test_rows_that_come_again_after_an_interruption_are_told_once(
    directory: RunDirectory, tiny: Experiment, wandb: Fake
) -> None:
    for rows in ([64, 128, 192], [128, 192, 256]):  # killed at 192, going on from 64
        tracker = Tracker("wandb", directory, tiny, pytest.fail)
        for env_steps in rows:
            tracker.write_row({"env_steps": env_steps, "loss/x": 1.0, "eval/lap_time": float("nan")})
    assert [[step for step, _ in run.rows] for run in wandb.runs] == [[64, 128, 192], [256]]
    assert wandb.runs[0].rows[0][1] == {"env_steps": 64, "loss/x": 1.0}


@pytest.mark.parametrize("failure", [Fake.Error, OSError, TypeError])
def test_a_tracker_that_fails_is_told_of_once_and_ends_nothing(
    directory: RunDirectory, tiny: Experiment, wandb: Fake, failure: type[Exception]
) -> None:
    said: list[str] = []
    tracker = Tracker("wandb", directory, tiny, said.append)
    closed = Tracker("wandb", directory, tiny, said.append)
    wandb.failure = failure
    closed.close()
    assert said.pop() == "wandb did not end well: no answer"
    tracker.write_row({"env_steps": 64})
    tracker.write_row({"env_steps": 128})
    tracker.close()
    assert len(said) == 1 and "wandb takes no more rows (no connection)" in said[0]
    with pytest.raises(TrackerError, match="WANDB_MODE=offline"):
        Tracker("wandb", directory, tiny, said.append)
    assert TrackerError.exit_code == 2


def test_what_is_not_there_is_refused_with_the_command_that_installs_it(
    tiny: Experiment, directory: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 's5wm\[wandb\]'"):
        run_experiment(tiny, tmp_path / "new", How(trackers=("wandb",)))
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="did you mean 'wandb'"):
        check_trackers(["wandbb"])
    (directory.path / RECORD).write_text('{"trackio": {"id": "x", "env_steps": 3}}')
    said: list[str] = []
    assert open_trackers((), directory, tiny, said.append) == []
    assert "not installed here; going on without it" in said[0]


def test_trackio_resumes_by_name(directory: RunDirectory, tiny: Experiment, monkeypatch) -> None:
    module = Fake("trackio")
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    for seed in (0, 1):
        Tracker("trackio", directory, replace(tiny, seed=seed), pytest.fail).write_row(
            {"env_steps": 64 * (seed + 1)}
        )
    first, second = (run.options for run in module.runs)
    assert first["name"] == second["name"] and first["name"].startswith("run-")
    assert second["resume"] == "allow" and second["project"] == "mine"


OFFLINE = """
import sys
from pathlib import Path
from s5wm.experiments.experiment import Experiment
from s5wm.runs.directory import RunDirectory
from s5wm.experiments.trackers import Tracker
directory = RunDirectory(Path(sys.argv[1]))
for steps in ((64, 128), (128, 192)):
    tracker = Tracker("wandb", directory, Experiment(), print)
    for env_steps in steps:
        tracker.write_row({"env_steps": env_steps, "loss/x": 0.5})
    tracker.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_one_offline(tmp_path: Path) -> None:
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", OFFLINE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    run_id = json.loads((tmp_path / RECORD).read_text())["wandb"]["id"]
    kept = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert kept and all(name.endswith(run_id) for name in kept)
