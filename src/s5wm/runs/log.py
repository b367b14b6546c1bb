"""Sinks of metrics: JSON lines, TensorBoard, and lines of text or a live panel."""

import errno
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from s5wm.errors import WriteError
from s5wm.runs.console import print_line
from s5wm.runs.files import plain, write_bytes
from s5wm.runs.reporting import Column
from s5wm.runs.signals import own_metrics

Row = dict[str, int | float]

SPARE = 2**20
"""Bytes that must be free for TensorBoard's events; ``metrics.jsonl`` holds the same numbers."""

FLUSH_EVERY = 30.0
"""Seconds after which TensorBoard's events are flushed, which waits for the disk."""


@runtime_checkable
class Sink(Protocol):
    """A destination of rows of metrics and lines of text."""

    def write_row(self, row: Row) -> None:
        """Write one row of metrics; keys are ``group/name``."""
        ...

    def write_line(self, text: str) -> None:
        """Write one line of text."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class JsonLines:
    """``metrics.jsonl``; rows after ``env_steps``, of an interrupted run, are removed first.

    While the disk is full, rows wait in memory and are written with the first one that fits again.
    """

    def __init__(self, path: Path, *, env_steps: int) -> None:
        self.path = path
        kept = [row for row in read_rows(path) if row["env_steps"] <= env_steps]
        content = "".join(json.dumps(row) + "\n" for row in kept).encode()
        write_bytes(path, content)
        self._size = len(content)  # of the whole lines
        self._waiting: list[bytes] = []
        self._has_warned = False

    def write_row(self, row: Row) -> None:
        """Append, or keep for later if the disk is full."""
        self._waiting.append((json.dumps(plain(row)) + "\n").encode())
        try:
            self._append()
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                print_line(f"cannot write {self.path}: {error.strerror}; its rows wait in memory")

    def write_line(self, text: str) -> None:
        """Do nothing: text is not a metric."""

    def close(self) -> None:
        """Write pending rows; raises ``WriteError`` if they are lost."""
        try:
            self._append()
        except OSError as error:
            raise WriteError(
                f"cannot write {self.path}: {error.strerror}; {len(self._waiting)} rows are lost"
            ) from error

    def _append(self) -> None:
        if not self._waiting:
            return
        content = b"".join(self._waiting)
        with self.path.open("r+b", buffering=0) as file:
            file.truncate(self._size)  # what a full disk left of the line before
            file.seek(self._size)
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(content)
        self._waiting = []


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a ``metrics.jsonl``; lines torn by a crash and rows that were rolled back are left out."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("env_steps"), int):
            while rows and rows[-1]["env_steps"] >= row["env_steps"]:
                rows.pop()
            rows.append(row)
    return rows


class TensorBoard:
    """TensorBoard events, where tensorboardX is installed.

    They are written here and not by the thread of its ``SummaryWriter``, which ends with the first write that fails
    and then blocks whoever adds a row.
    """

    def __init__(self, folder: Path, *, env_steps: int) -> None:
        from tensorboardX.record_writer import RecordWriter

        self._folder = folder
        self._writer: Any = None
        self._flushed = -math.inf
        self._last = env_steps
        with self._given_up_on_error():
            folder.mkdir(parents=True, exist_ok=True)
            earlier = len(list(folder.glob("*tfevents*")))
            name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{earlier}"
            self._writer = RecordWriter(str(folder / name))
            self._append(file_version="brain.Event:2")
            if earlier:
                self._purge(env_steps + 1)

    def write_row(self, row: Row) -> None:
        """One point per number; none while the disk is full, which would tear the file."""
        from tensorboardX.summary import scalar

        if self._writer is None:
            return
        step = int(row["env_steps"])
        drawn = {name: value for name, value in row.items() if value == value}  # TensorBoard draws no NaN
        values = [point for name, value in drawn.items() for point in scalar(name, value).value]
        with self._given_up_on_error():
            if shutil.disk_usage(self._folder).free < SPARE:
                return
            if step <= self._last:
                self._purge(step)
            self._last = step
            self._append(step=step, summary={"value": values})

    def write_line(self, text: str) -> None:
        """Do nothing: text is not a metric."""

    def close(self) -> None:
        """Flush and close."""
        if self._writer is None:
            return
        with suppress(OSError):
            self._writer.close()
        self._writer = None

    def _purge(self, step: int) -> None:
        """Hide the points from this step on, of an interrupted run or before a roll-back."""
        self._append(step=step, session_log={"status": "START"})

    def _append(self, **event: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] -- protobuf makes it

        self._writer.write(Event(wall_time=time.time(), **event).SerializeToString())
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self._writer.flush()
            self._flushed = time.monotonic()

    @contextmanager
    def _given_up_on_error(self) -> Generator[None]:
        """Close for good at the first event that cannot be written."""
        try:
            yield
        except OSError as error:
            print_line(f"TensorBoard gets no more rows ({error.strerror}); metrics.jsonl has them all")
            self.close()


_BEFORE = (
    Column(name="env_steps", title="steps", form="{:,.0f}"),
    Column(name="episode/return_nominal", title="return"),
)
_AFTER = (
    Column(name="eval/return_nominal", title="evaluated"),
    Column(name="eval/success", title="success", form="{:.0%}"),
    Column(name="env_steps_per_s", title="steps/s", form="{:,.0f}"),
    Column(name="updates_per_s", title="updates/s", form="{:,.1f}"),
)


class Lines:
    """Plain lines on stderr, at most one every ``every`` seconds besides evaluations."""

    def __init__(self, columns: Sequence[Column] = (), *, every: float = 10.0, prefix: str = "") -> None:
        """With a task's own ``columns`` after those of every training."""
        self._columns = columns
        self._every = every
        self._prefix = prefix
        self._last = -float("inf")

    def write_row(self, row: Row) -> None:
        """Print a short line."""
        now = time.monotonic()
        if now - self._last < self._every and not _is_evaluation(row):
            return
        self._last = now
        parts = [f"{title} {form.format(row[key])}" for key, title, form in shown(row, self._columns)]
        self.write_line(
            "  ".join([f"{row.get('wall_minutes', 0.0):6.1f} min", *parts, f"ETA {eta_text(row)}"])
        )

    def write_line(self, text: str) -> None:
        """Print the line."""
        print_line(self._prefix + text)

    def close(self) -> None:
        """Do nothing."""


def _is_evaluation(row: Mapping[str, int | float]) -> bool:
    return any(name.startswith("eval/") for name in row)


def shown(row: Mapping[str, int | float], own: Sequence[Column] = ()) -> list[tuple[str, str, str]]:
    """Name, title and form of the columns that this row has numbers for; ``own`` are the task's.

    A task that names none but the length has all that its environment measures of training episodes.
    """
    if all(column.name == "episode/length" for column in own):
        names = own_metrics(name for name in row if name.startswith("episode/"))
        own = (*own, *(Column(name=f"episode/{n}", title=n.replace("_", " "), form="{:.3g}") for n in names))
    columns = [(c.name, c.title, c.form) for c in (*_BEFORE, *own, *_AFTER)]
    return [c for c in columns if c[0] in row and row[c[0]] == row[c[0]]]


def eta_text(row: Mapping[str, int | float]) -> str:
    """Remaining time to the end of the budget, as text."""
    minutes = row.get("eta_minutes", float("nan"))
    if not minutes >= 0:
        return "?"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
