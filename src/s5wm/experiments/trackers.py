"""Weights & Biases and trackio as further sinks of a training, where they are installed and asked for.

``metrics.jsonl`` stays the record.  A tracker gets every row once: after an interruption or a roll-back, rows up to
the last step that it got are left out.
"""

import importlib
import os
import secrets
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s5wm.errors import ConfigError, CorruptError, S5wmError, WriteError
from s5wm.experiments.experiment import Experiment
from s5wm.runs.codec import encode, suggest
from s5wm.runs.directory import RunDirectory
from s5wm.runs.files import read_json, write_json
from s5wm.runs.log import Row

TRACKERS = ("wandb", "trackio")

RECORD = "tracking.json"
"""In a run: which trackers it has, under which id, and the last step they got."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises ``ConfigError`` for an unknown or missing one, before anything is made or compiled."""
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"unknown tracker --log {name}" + suggest(name, TRACKERS))
        if find_spec(name) is None:
            raise ConfigError(f"--log {name} needs the package {name}: pip install 's5wm[{name}]'")


class Tracker:
    """A run at one tracker; a failure there is logged once and never ends a training."""

    def __init__(
        self, name: str, directory: RunDirectory, experiment: Experiment, log: Callable[[str], None]
    ) -> None:
        self.name = name
        self._log = log
        self._record = directory.path / RECORD
        known = recorded(directory.path).get(name, {})
        self._id = str(known.get("id") or secrets.token_hex(4))
        self._last = int(known.get("env_steps", -1))
        self._run: Any = None
        try:
            self._run = _BEGIN[name](
                importlib.import_module(name), self._id, directory.path, _config(experiment)
            )
        except Exception as error:
            raise TrackerError(
                f"{name} cannot begin: {error}; log in there, or log offline ({_OFFLINE[name]}), or leave out --log"
            ) from error
        self._note()

    def write_row(self, row: Row) -> None:
        """Every finite number, at its environment step."""
        env_steps = int(row["env_steps"])
        if self._run is None or env_steps <= self._last:
            return
        try:
            self._run.log({key: value for key, value in row.items() if value == value}, step=env_steps)
        except Exception as error:  # noqa: BLE001 - of any kind: libraries of the network have their own
            self._log(f"{self.name} takes no more rows ({error}); metrics.jsonl has them all")
            self._run = None
            return
        self._last = env_steps
        self._note()

    def write_line(self, text: str) -> None:
        """Text is not a metric."""

    def close(self) -> None:
        """Send what is left."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:  # noqa: BLE001 - as above
            self._log(f"{self.name} did not end well: {error}")

    def _note(self) -> None:
        entry = {self.name: {"id": self._id, "env_steps": self._last}}
        try:
            write_json(self._record, recorded(self._record.parent) | entry)
        except (WriteError, CorruptError) as error:  # a bad disk: training goes on, as without its other logs
            self._log(f"{error}; a resumed run may send {self.name} some rows twice")


class TrackerError(S5wmError):
    """A tracker that was asked for cannot begin."""

    exit_code = ConfigError.exit_code


def recorded(path: Path) -> dict[str, Any]:
    """Trackers of a run by name."""
    file = path / RECORD
    return read_json(file) if file.is_file() else {}


def open_trackers(
    names: Sequence[str], directory: RunDirectory, experiment: Experiment, log: Callable[[str], None]
) -> list[Tracker]:
    """Those asked for and those that the run already has; the latter are left out where they are not installed."""
    opened: list[Tracker] = []
    for name in dict.fromkeys([*names, *recorded(directory.path)]):
        if name not in names and (name not in TRACKERS or find_spec(name) is None):
            log(f"the run was logged to {name}, which is not installed here; going on without it")
            continue
        opened.append(Tracker(name, directory, experiment, log))
    return opened


def _config(experiment: Experiment) -> dict[str, Any]:
    name = experiment.name
    return {"task": name.task, "agent": name.agent, "size": name.size, "experiment": encode(experiment)}


def _begin_wandb(module: Any, run_id: str, path: Path, config: dict[str, Any]) -> Any:
    return module.init(
        project=os.environ.get("WANDB_PROJECT", "s5wm"),
        id=run_id,
        name="/".join(path.parts[-2:]),
        dir=str(path),
        config=config,
        resume="allow",
        reinit="create_new",  # seeds that train together have a run each
    )


def _begin_trackio(module: Any, run_id: str, path: Path, config: dict[str, Any]) -> Any:
    return module.init(
        project=os.environ.get("TRACKIO_PROJECT", "s5wm"),
        name=f"{path.name}-{run_id}",
        config=config,
        resume="allow",
    )


_BEGIN: dict[str, Callable[[Any, str, Path, dict[str, Any]], Any]] = {
    "wandb": _begin_wandb,
    "trackio": _begin_trackio,
}
_OFFLINE = {"wandb": "WANDB_MODE=offline", "trackio": "unset TRACKIO_SPACE_ID"}
