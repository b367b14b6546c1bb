"""All pictures of a run directory, from whatever it holds by now."""

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s5wm.plots.animation import animate_lap
from s5wm.plots.curves import draw_curves, draw_signals
from s5wm.plots.flight import Caption, draw_flight
from s5wm.plots.imagination import draw_imagination
from s5wm.plots.records import facts_of, policy_of, read_json, read_records, title_of
from s5wm.plots.style import house_style, save_figure
from s5wm.plots.video_predictions import draw_video_predictions
from s5wm.runs.console import print_line
from s5wm.runs.directory import shortest_ends
from s5wm.runs.flights import Flown, TrackGeometry, load_flown, load_track_geometry
from s5wm.runs.predictions import PREDICTIONS, load_predictions
from s5wm.runs.video_predictions import VIDEO_PREDICTIONS, load_video_predictions

FLIGHTS = Path("flights.npz")
"""Where an evaluation leaves the flights to be drawn (``s5wm.runs.flights``), inside a run directory."""

Report = Callable[[str], None]


class Absent(Exception):
    """The data of a picture is missing (yet)."""


@dataclass(kw_only=True)
class Pictures:
    """Result of drawing a folder."""

    written: list[Path] = field(default_factory=list[Path])
    absent: list[str] = field(default_factory=list[str])  # why a picture was left out
    damaged: list[str] = field(default_factory=list[str])  # files that cannot be read


def draw_run(run_dir: Path) -> Pictures:
    """Draws a run directory into its ``plots/``: flight and animation, curves, imagination.

    Raises ``OSError`` where a picture cannot be written.
    """
    return _drawn(run_dir, (_flight, _animation, _curves, _imagination, _video_predictions))


def draw_evaluation(folder: Path) -> Pictures:
    """Draws the results of ``s5wm eval --out`` and ``s5wm imagine --out`` in a folder into its ``plots/``."""
    parts = (_flight, _animation) if (folder / FLIGHTS).is_file() else ()
    drawn, more = _drawn(folder, parts), draw_imagined(folder)
    return Pictures(
        written=drawn.written + more.written,
        absent=drawn.absent + more.absent,
        damaged=drawn.damaged + more.damaged,
    )


def draw_progress(run_dir: Path) -> Pictures:
    """Draws the learning curves of a finished training, and its flight if there is one."""
    return _drawn(run_dir, (_learning, _flight))


def draw_imagined(folder: Path) -> Pictures:
    """Draws the results of ``s5wm imagine`` in a folder into its ``plots/``."""
    return _drawn(folder, (*([_imagination] if (folder / PREDICTIONS).is_file() else []), _video_predictions))


def plot_run(run_dir: Path, *, report: Report | None = None) -> list[Path]:
    """``draw_run`` with one line through ``report`` (standard error by default) for what was left out.

    Returns the files written.
    """
    log, drawn = report or print_line, draw_run(run_dir)
    for line in drawn.absent + drawn.damaged:
        log(line)
    return drawn.written


def _drawn(folder: Path, parts: Sequence[Callable[[Path], list[Path]]]) -> Pictures:
    drawn = Pictures()
    names_without: dict[str, list[str]] = {}  # pictures by what they lack
    with house_style():
        for draw in parts:
            name = draw.__name__.removeprefix("_").replace("_", " ")
            try:
                drawn.written += draw(folder)
            except Absent as error:
                names_without.setdefault(str(error), []).append(name)
            except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
                drawn.damaged.append(f"{name} not drawn, because its file is damaged: {error}")
    drawn.absent = [f"{' and '.join(names)} not drawn: {lack}" for lack, names in names_without.items()]
    return drawn


def plot_runs(run_dirs: Sequence[Path], out: Path, *, report: Report | None = None) -> list[Path]:
    """Learning curves and signals of several runs in the same axes, as ``out/curves`` and ``out/signals``."""
    log = report or print_line
    found = [(run_dir, read_records(run_dir)) for run_dir in run_dirs]
    for run_dir, records in found:
        if records is None:
            log(f"skipped {run_dir}: no readable line in {run_dir / 'metrics.jsonl'} (yet)")
    names = shortest_ends([run_dir for run_dir, records in found if records is not None])
    runs = [
        replace(records, name=name)
        for records, name in zip((r for _, r in found if r is not None), names, strict=True)
    ]
    if not runs:
        return []
    bounds = {_bound(run_dir) for run_dir in run_dirs}
    with house_style():
        curves = draw_curves(runs, bound=bounds.pop() if len(bounds) == 1 else None)
        written = save_figure(curves, out / "curves")
        signals = draw_signals(runs)
        return written + (save_figure(signals, out / "signals") if signals else [])


def plot_flight(run_dir: Path) -> list[Path]:
    """The flight picture alone, ``plots/flight.png`` and ``.svg``: fast enough after every evaluation.

    Nothing for a task without a drone; raises ``Absent`` where no evaluation has recorded flights.
    """
    with house_style():
        return _flight(run_dir)


def _flight(run_dir: Path) -> list[Path]:
    flown = _flown(run_dir)
    if not flown.flights:
        return []
    caption = Caption(title=title_of(run_dir), facts=_whose(run_dir, flown.about))
    figure = draw_flight(flown.flights, flown.track, caption)
    return save_figure(figure, run_dir / "plots" / "flight")


def _whose(run_dir: Path, about: Mapping[str, Any]) -> str:
    """Which policy flew, its whole evaluation, and what was changed of the task."""
    facts = facts_of(about or read_json(run_dir / "eval.json"))
    parts = [policy_of(about), facts and f"of the whole evaluation: {facts}", *about.get("overrides", ())]
    return "   ·   ".join(part for part in parts if part)


def _animation(run_dir: Path) -> list[Path]:
    flown = _flown(run_dir)
    if not flown.flights:
        return []
    return animate_lap(flown.flights[0], flown.track, title_of(run_dir), run_dir / "plots" / "lap")


def _learning(run_dir: Path) -> list[Path]:
    """The curves without the many panels of losses, which take longest to draw."""
    records = read_records(run_dir)
    if records is None:
        raise Absent(f"no readable line in {run_dir / 'metrics.jsonl'} (yet)")
    return save_figure(draw_curves([records], bound=_bound(run_dir)), run_dir / "plots" / "curves")


def _curves(run_dir: Path) -> list[Path]:
    _needed(run_dir / "metrics.jsonl", "metrics yet; s5wm train logs them")
    lines: list[str] = []
    written = plot_runs([run_dir], run_dir / "plots", report=lines.append)
    if lines:
        raise Absent(lines[0])
    return written


def _imagination(run_dir: Path) -> list[Path]:
    file = _needed(run_dir / PREDICTIONS, "imagined futures yet; s5wm imagine records them")
    predictions = load_predictions(file)
    track = predictions.track or _track_of(run_dir)  # files of before hold none
    figure = draw_imagination(predictions, track, f"Imagination · {title_of(run_dir, predictions.about)}")
    return save_figure(figure, run_dir / "plots" / "imagination")


def _video_predictions(run_dir: Path) -> list[Path]:
    file = run_dir / VIDEO_PREDICTIONS
    if not file.is_file():  # most tasks have no camera
        return []
    figure = draw_video_predictions(load_video_predictions(file), f"Predicted images · {title_of(run_dir)}")
    return save_figure(figure, run_dir / "plots" / "video_prediction")


def _flown(run_dir: Path) -> Flown:
    """The recorded flights; none of a task without a drone."""
    return load_flown(
        _needed(run_dir / FLIGHTS, "flights yet; s5wm eval records those of a task with a drone")
    )


def _track_of(run_dir: Path) -> TrackGeometry | None:
    file = run_dir / FLIGHTS
    return load_track_geometry(file) if file.is_file() else None


def _needed(file: Path, what: str) -> Path:
    if not file.is_file():
        raise Absent(f"no {file} with {what}")
    return file


def _bound(run_dir: Path) -> float | None:
    bound = read_json(run_dir / "eval.json").get("bound_s")
    return float(bound) if isinstance(bound, int | float) else None
