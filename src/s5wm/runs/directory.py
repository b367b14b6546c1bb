"""A run directory: one training, one owner at a time."""

import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from s5wm.errors import RunDirectoryError
from s5wm.runs.files import read_json

CONFIG = "config.json"
ORIGIN = "origin.json"


def lives(run: Path) -> list[dict[str, Any]]:
    """Where a training began and each time went on: machine, cores, versions and commit, in order; [] where unknown.

    A run of before has only the last.
    """
    file = run / ORIGIN
    if not file.is_file():
        return []
    stored = read_json(file)
    return stored.get("lives", [stored])


_STARTS = ("start", "start.partial", "start.older")


def _is_left_over(path: Path) -> bool:
    """Whether a training that was killed at its start may have left this before its configuration."""
    return path.name in ("lock", *_STARTS) or path.suffix == ".partial"


class RunDirectory:
    """``config.json``, ``metrics.jsonl``, ``eval.json``, ``flights.npz``; ``checkpoints``, ``best``, ``plots``, ...

    A context manager that holds the run's lock.  The lock dies with its process, so that none is ever stale.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    @property
    def config(self) -> Path:
        """The resolved experiment."""
        return self.path / CONFIG

    @property
    def metrics(self) -> Path:
        """One JSON object per log step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of full checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The best policy by evaluation: ``policy.npz`` and ``eval.json``."""
        return self.path / "best"

    @property
    def diverged(self) -> Path:
        """Debug states of roll-backs."""
        return self.path / "diverged"

    @property
    def failure(self) -> Path:
        """Traceback of environments that failed too often."""
        return self.path / "environment-failure.txt"

    @property
    def flights(self) -> Path:
        """Recorded episodes of the latest evaluation."""
        return self.path / "flights.npz"

    @property
    def start(self) -> Path:
        """Initial parameters from another training (``train --from``), if any."""
        return self.path / "start"

    def forget_start(self) -> None:
        """Remove files of a training that was killed before its configuration was written."""
        for name in _STARTS:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def exists(self) -> bool:
        """Whether there is a run."""
        return self.config.is_file()

    def check(self) -> None:
        """Raises ``RunDirectoryError`` if no run can start or resume here; creates nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is a file; name a directory for the run")
        if (self.path / "policy.npz").is_file():
            raise RunDirectoryError(
                f"{self.path} is a single policy, which holds only what acting needs; name another directory"
            )
        if self.path.is_dir() and not self.exists() and not all(map(_is_left_over, self.path.iterdir())):
            raise RunDirectoryError(
                f"{self.path} is not empty and not a run (it has no {CONFIG}); name another directory"
            )
        parent = self.path
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise RunDirectoryError(f"{parent} is not writable; name another directory with --run")

    @property
    def owner(self) -> str | None:
        """Number of the process that holds the lock; None where none does."""
        lock = self.path / "lock"
        try:
            with lock.open(encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read_text(encoding="utf-8").strip() or "unknown"
        except OSError:
            return None  # there is no lock, or this place is not for us to lock
        return None

    def __enter__(self) -> "RunDirectory":
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise RunDirectoryError(
                f"cannot use {self.path}: {error.strerror}; name another directory"
            ) from error
        try:
            _take(lock)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise RunDirectoryError(
                f"{self.path} is in use by process {owner}; wait for it, stop it, or name another directory"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def shortest_ends(paths: Sequence[Path]) -> list[str]:
    """Names of paths: as much of the end of each as tells it from the others."""
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts), default=1)
    depth = next((n for n in range(1, longest) if len({own[-n:] for own in parts}) == len(parts)), longest)
    return ["/".join(own[-depth:]) for own in parts]


def room_for_results(out: Path, option: str = "--out") -> None:
    """Make the folder ``out`` of an option, before anything runs whose results go there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"{out} cannot be made: {error.strerror}; name another folder with {option}"
        ) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise RunDirectoryError(f"{out} is not writable; name another folder with {option}")


def _take(lock: IO[str]) -> None:
    """Lock a file for this process; raises ``OSError`` where another one keeps it.

    Whoever asks for the ``owner`` holds it for an instant, which is no reason to refuse.
    """
    for wait in (0.01, 0.05, 0.2):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(wait)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
