"""Drawing, shared by several verbs: report the files that were drawn; drawing nothing is no success."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from s5wm.cli.common import DONE
from s5wm.errors import CorruptError, WriteError
from s5wm.runs.console import print_line
from s5wm.runs.directory import CONFIG

if TYPE_CHECKING:
    from s5wm.plots.run import Pictures

NOTHING_DRAWN = 1

_EVALUATED = ("flights.npz", "eval.json", "plots/imagination.npz")


def drawable(path: Path) -> Path:
    """Folder of a run, of a shipped policy, or of what ``eval --out`` or ``imagine --out`` left."""
    from s5wm.experiments.trained import find

    if not (path / CONFIG).is_file() and any((path / name).is_file() for name in _EVALUATED):
        return path
    return find(path)


def draw(folder: Path) -> int:
    """Draw all pictures of a run or of an evaluation and print their paths; returns the exit code.

    0 where something was drawn, 1 where there was nothing to draw, 65 where a file is damaged.  Raises ``WriteError``
    where a picture cannot be written.
    """
    from s5wm.plots import draw_evaluation, draw_run

    try:
        drawn = draw_run(folder) if (folder / CONFIG).is_file() else draw_evaluation(folder)
    except OSError as error:
        raise WriteError(f"cannot write the pictures of {folder}: {error.strerror or error}") from error
    for picture in drawn.written:
        print_line(f"drawn: {picture}")
    for line in drawn.absent + drawn.damaged:
        print_line(line)
    if drawn.damaged:
        return CorruptError.exit_code
    if not drawn.written:
        print_line(
            f"nothing was drawn of {folder}: it holds no flight, no metrics and no imagined future yet"
        )
        return NOTHING_DRAWN
    return DONE


def draw_flights(folder: Path) -> None:
    """Draw the flight picture of a finished evaluation, of a task with a drone, and print its path."""
    from s5wm.plots import Absent, plot_flight

    try:
        for picture in plot_flight(folder):
            print_line(f"drawn: {picture}")
    except (Absent, OSError) as error:  # a folder plots/ that cannot be written
        print_line(f"no picture: {error}")


def draw_training(folder: Path) -> None:
    """Draw the learning curves of a finished training and the flights of its evaluation, and print the paths."""
    from s5wm.plots import draw_progress

    _draw_beside(folder, draw_progress)


def draw_futures(folder: Path) -> None:
    """Draw the result of ``s5wm imagine`` and print the paths, or why there are none."""
    from s5wm.plots import draw_imagined

    _draw_beside(folder, draw_imagined)


def _draw_beside(folder: Path, draw_what: "Callable[[Path], Pictures]") -> None:
    """Draw optional pictures; a failure does not change the exit code of the verb."""
    try:
        drawn = draw_what(folder)
    except OSError as error:
        print_line(f"no picture: {error}")
        return
    for picture in drawn.written:
        print_line(f"drawn: {picture}")
    for line in drawn.damaged:
        print_line(line)


def sketch(folder: Path) -> None:
    """Draw the flight picture alone during a training; a failure does not end it."""
    try:
        from s5wm.plots import plot_flight

        plot_flight(folder)
    except Exception as error:  # noqa: BLE001 - whatever drawing does, hours of training must go on
        print_line(f"no picture of this evaluation: {error!r}")
