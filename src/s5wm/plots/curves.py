"""Learning curves over environment steps and over time, and small multiples of everything else that is logged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from s5wm.plots.records import RunRecords, Series
from s5wm.plots.style import CYCLE, INK, bound_line, heading, new_figure, plain_number, training_axis
from s5wm.runs.signals import SMOOTHING, by_group, is_rounding, own_metrics, words_for

WINDOW = 0.08
"""Share of a curve that one point of its bold line is the mean of."""

COLUMNS = 4
_ABOVE, _TITLE, _ROW = 0.85, 0.25, 1.5  # inches: heading of a picture, heading of a group, a row of panels
NEARLY = 0.02
"""Share of its value that a constant may vary by, which is rounding."""

_NOT_A_SIGNAL = ("eval/", "time/", "train/", "episode/")
_COUNTERS = (
    "env_steps",
    "updates",
    "minutes",
    "wall_minutes",
    "eta_minutes",
    "iteration",
    "env_steps_per_s",
    "updates_per_s",
    "seconds",
)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One row of the learning curves."""

    title: str
    evaluated: tuple[str, ...]  # names in the log, the first found counts
    trained: tuple[str, ...]  # the same quantity in training episodes, drawn thin
    form: str = "{:.1f}"  # of the last figure
    is_general: bool = False  # whether any task has it


LENGTH = Quantity(
    title="steps per episode",
    evaluated=("eval/length",),
    trained=("episode/length",),
    form="{:.0f}",
    is_general=True,
)
"""Drawn where a task has no quantities of its own."""

QUANTITIES = (
    Quantity(
        title="return",
        evaluated=("eval/return_nominal",),
        trained=("episode/return_nominal", "train/return_nominal"),
        is_general=True,
    ),
    Quantity(
        title="success",
        evaluated=("eval/success",),
        trained=("episode/success",),
        form="{:.0%}",
        is_general=True,
    ),
    Quantity(title="lap time, s", evaluated=("eval/lap_time",), trained=("train/lap_time",), form="{:.2f}"),
    Quantity(title="gates per episode", evaluated=("eval/gates",), trained=("episode/gates", "train/gates")),
)


def draw_curves(runs: Sequence[RunRecords], *, bound: float | None = None) -> Figure:
    """Return, success, and metrics of the task; left over environment steps, right over minutes.

    Dots are evaluations, thin lines training episodes, a colour is a run.  ``bound`` is the time-optimal
    lap in s.  Quantities that no run has are left out.
    """
    shown = _quantities(runs)
    figure = new_figure(11.0, 1.35 + 1.85 * max(len(shown), 1))
    top = 1.0 - 0.95 / figure.get_figheight()
    grid = figure.add_gridspec(
        max(len(shown), 1), 2, left=0.07, right=0.975, top=top, bottom=0.5 / figure.get_figheight(), hspace=0.36,
        wspace=0.12,
    )  # fmt: skip
    for row, quantity in enumerate(shown):
        for column, x in enumerate(("env_steps", "minutes")):
            axes = figure.add_subplot(grid[row, column])
            _draw_quantity(axes, runs, quantity, x)
            if quantity.title.startswith("lap time") and bound is not None:
                bound_line(axes, bound)
            if column == 0:
                axes.set_title(quantity.title)
            if row == len(shown) - 1:
                axes.set_xlabel("environment steps" if x == "env_steps" else "minutes")
    heading(
        figure,
        "Learning curves",
        "dots: evaluation   ·   palest: training episodes   ·   thin: their running mean",
        top=1 - 0.22 / figure.get_figheight(),
    )
    _draw_names(figure, runs)
    return figure


def _quantities(runs: Sequence[RunRecords]) -> list[Quantity]:
    """Those that some run has; where none of them is a task's own, all that the environment measures."""
    shown = [q for q in QUANTITIES if _has(runs, q)]
    if not all(q.is_general for q in shown):
        return shown
    names = own_metrics(name for run in runs for name in run.names)
    own = [
        Quantity(
            title=name.replace("_", " "),
            evaluated=(f"eval/{name}",),
            trained=(f"episode/{name}",),
            form="{:.3g}",
        )
        for name in names
    ]
    return [*shown, *(q for q in (LENGTH, *own) if _has(runs, q))]


def _has(runs: Sequence[RunRecords], quantity: Quantity) -> bool:
    names = (*quantity.evaluated, *quantity.trained)
    return any(len(run.series("env_steps", *names)[0]) for run in runs)


def draw_signals(runs: Sequence[RunRecords]) -> Figure | None:
    """The signals of learning by group, one small panel each; None if nothing was logged.

    A constant is written as text instead.
    """
    names = _signals(runs)
    if not names:
        return None
    constant = {name: value for name in names if (value := _constant(runs, name)) is not None}
    groups = by_group(name for name in names if name not in constant)
    rows = sum(-(-len(group) // COLUMNS) for group in groups.values())
    heights = [_ABOVE, *(part for group in groups.values() for part in _heights(len(group))), 0.3]
    figure = new_figure(11.0, sum(heights))
    top = sum(heights) - heights[0]
    for title, group in groups.items():
        top = _draw_signal_group(figure, runs, title, group, top)
    lines = ["thin: as logged   ·   bold: running mean"]
    if constant:
        lines.append(
            "constant: " + ", ".join(f"{words_for(n)} {plain_number(v, 3)}" for n, v in constant.items())
        )
    above = 1 - 0.22 / figure.get_figheight()
    heading(figure, "Losses and signals", "\n".join(lines) if rows else lines[-1], top=above)
    _draw_names(figure, runs)
    return figure


def _constant(runs: Sequence[RunRecords], name: str) -> float | None:
    values = np.concatenate([run.series("env_steps", name)[1] for run in runs])
    return float(values[0]) if len(values) > 1 and np.ptp(values) <= NEARLY * abs(values[0]) else None


def _heights(count: int) -> list[float]:
    """Inches of a group's heading and of its rows."""
    return [_TITLE, *[_ROW] * -(-count // COLUMNS)]


def _draw_signal_group(
    figure: Figure, runs: Sequence[RunRecords], title: str, names: Sequence[str], top: float
) -> float:
    """Panels of one group below ``top`` inches from the bottom; where the next one begins."""
    width, height = figure.get_size_inches()
    figure.text(0.03, (top - 0.12) / height, title, fontsize=11, fontweight="bold", color=INK, va="center")
    top -= _TITLE
    across = (width - 0.7) / COLUMNS
    for index, name in enumerate(names):
        left, below = 0.55 + across * (index % COLUMNS), top - _ROW * (index // COLUMNS + 1)
        box = (left / width, (below + 0.32) / height, (across - 0.5) / width, (_ROW - 0.65) / height)
        _draw_signal(figure.add_axes(box), runs, name)
    return top - _ROW * -(-len(names) // COLUMNS)


def running_mean(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Mean over a window centred on each point, which does not lag; the window shrinks at both ends."""
    half = max(1, round(WINDOW * len(values) / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    reach = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    return (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)


def _draw_quantity(axes: Axes, runs: Sequence[RunRecords], quantity: Quantity, x: str) -> None:
    for index, run in enumerate(runs):
        colour = CYCLE[index % len(CYCLE)]
        thin, dots = run.series(x, *quantity.trained), run.series(x, *quantity.evaluated)
        if len(thin[0]):
            axes.plot(*thin, color=colour, linewidth=0.7, alpha=0.3)
            axes.plot(
                *(thin[0], running_mean(thin[1])),
                color=colour,
                linewidth=1.0,
                alpha=0.7,
                marker=_alone(thin[0]),
            )
        if len(dots[0]):
            axes.plot(*dots, color=colour, linewidth=1.8, marker="o", markersize=3.6, markeredgecolor="white")
            _label_last(axes, dots, quantity, colour, is_alone=len(runs) == 1)
    _format_abscissa(axes, runs, x)
    if quantity.form.endswith("%}"):
        axes.set_ylim(-0.04, 1.06)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _alone(x: Float[np.ndarray, " K"]) -> str | None:
    """A mark for the first logged row, through which no line can be drawn yet."""
    return "." if len(x) == 1 else None


def _label_last(axes: Axes, dots: Series, quantity: Quantity, colour: str, *, is_alone: bool) -> None:
    """The last value at the edge, beside all lines, if there is one run."""
    if not is_alone:
        return
    axes.annotate(
        quantity.form.format(dots[1][-1]), (1.0, dots[1][-1]), xycoords=("axes fraction", "data"), ha="right",
        va="center", color=colour, fontsize=8.5, fontweight="bold",
    )  # fmt: skip


def _draw_signal(axes: Axes, runs: Sequence[RunRecords], name: str) -> None:
    lows: list[float] = []
    for index, run in enumerate(runs):
        colour = CYCLE[index % len(CYCLE)]
        x, y = run.series("env_steps", name)
        if len(x) == 0:
            continue
        lows += [float(y.min()), float(y.max())]
        axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.35)
        axes.plot(x, running_mean(y), color=colour, linewidth=1.5, marker=_alone(x))
    if lows and min(lows) > 0 and max(lows) > 30 * min(lows):
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value, 2)))
    axes.set_title(words_for(name), fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    _format_abscissa(axes, runs, "env_steps")


def _format_abscissa(axes: Axes, runs: Sequence[RunRecords], x: str) -> None:
    logged = [[row[x] for row in run.rows if x in row] for run in runs]
    spans = [(values[0], values[-1]) for values in logged if values] or [(0.0, 1.0)]
    training_axis(axes, spans, EngFormatter(sep="") if x == "env_steps" else "{:g}".format, room=0.13)


def _draw_names(figure: Figure, runs: Sequence[RunRecords]) -> None:
    """The runs by colour, from the upper right corner leftwards."""
    y, x = 1 - 0.22 / figure.get_figheight(), 0.975
    for index, run in reversed(list(enumerate(runs))):
        name = figure.text(
            x, y, f"● {run.name}", color=CYCLE[index % len(CYCLE)], fontsize=9, ha="right", va="center"
        )
        x -= (len(name.get_text()) + 2) * 0.0072


def _signals(runs: Sequence[RunRecords]) -> list[str]:
    """What was logged of learning, without the weight of a reward that is none and without rounding."""
    names = list(dict.fromkeys(name for run in runs for name in run.names if _is_signal(name)))
    if SMOOTHING not in names:
        names = [name for name in names if name != "smoothing_weight"]
    largest = {name: max(abs(row.get(name, 0.0)) for run in runs for row in run.rows) for name in names}
    return [name for name in names if not is_rounding(name, largest[name])]


def _is_signal(name: str) -> bool:
    return name not in _COUNTERS and not name.startswith(_NOT_A_SIGNAL)
