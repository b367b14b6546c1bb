"""Learning curves over environment steps and over time, and small multiples of everything else that is logged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, PercentFormatter

from s5wm.plots.records import RunRecords, Series
from s5wm.plots.style import CYCLE, MUTED, heading, new_figure

WINDOW = 0.08
"""Share of a curve that one point of its bold line is the mean of."""

COLUMNS = 4
_NOT_A_SIGNAL = ("eval/", "time/", "train/", "episode/")
_COUNTERS = (
    "env_steps",
    "updates",
    "minutes",
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


QUANTITIES = (
    Quantity(
        title="return (nominal)",
        evaluated=("eval/return_nominal",),
        trained=("episode/return_nominal", "train/return_nominal"),
    ),
    Quantity(title="success", evaluated=("eval/success",), trained=(), form="{:.0%}"),
    Quantity(title="lap time, s", evaluated=("eval/lap_time",), trained=("train/lap_time",), form="{:.2f}"),
    Quantity(title="gates per episode", evaluated=("eval/gates",), trained=("episode/gates", "train/gates")),
)


def draw_curves(runs: Sequence[RunRecords], *, bound: float | None = None) -> Figure:
    """Return, success, lap time and gates; left over environment steps, right over minutes.

    Dots are evaluations, thin lines training episodes, a colour is a run.  ``bound`` is the time-optimal
    lap in s.  Quantities that no run has are left out.
    """
    shown = [
        q
        for q in QUANTITIES
        if any(len(run.series("env_steps", *q.evaluated, *q.trained)[0]) for run in runs)
    ]
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
                _draw_bound(axes, bound)
            if column == 0:
                axes.set_title(quantity.title)
            if row == len(shown) - 1:
                axes.set_xlabel("environment steps" if x == "env_steps" else "minutes")
    heading(
        figure,
        "Learning curves",
        "dots: evaluation   ·   thin: training episodes",
        top=1 - 0.22 / figure.get_figheight(),
    )
    _draw_names(figure, runs)
    return figure


def draw_signals(runs: Sequence[RunRecords]) -> Figure | None:
    """Losses first, then the other signals of learning, one small panel each; None if nothing was logged."""
    names = list(dict.fromkeys(name for run in runs for name in run.names if _is_signal(name)))
    names.sort(key=lambda name: not name.startswith("loss/"))
    if not names:
        return None
    rows = -(-len(names) // COLUMNS)
    height = 1.4 + 1.55 * rows
    figure = new_figure(11.0, height)
    grid = figure.add_gridspec(
        rows,
        COLUMNS,
        left=0.05,
        right=0.985,
        top=1 - 1.0 / height,
        bottom=0.45 / height,
        hspace=0.5,
        wspace=0.24,
    )
    for index, name in enumerate(names):
        axes = figure.add_subplot(grid[index // COLUMNS, index % COLUMNS])
        _draw_signal(axes, runs, name)
        if index + COLUMNS >= len(names):
            axes.set_xlabel("environment steps", fontsize=8)
    heading(figure, "Losses and signals", "thin: as logged   ·   bold: running mean", top=1 - 0.22 / height)
    _draw_names(figure, runs)
    return figure


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
            axes.plot(thin[0], running_mean(thin[1]), color=colour, linewidth=1.0, alpha=0.7)
        if len(dots[0]):
            axes.plot(*dots, color=colour, linewidth=1.8, marker="o", markersize=3.6, markeredgecolor="white")
            _label_last(axes, dots, quantity, colour, is_alone=len(runs) == 1)
    _format_abscissa(axes, runs, x)
    if quantity.form.endswith("%}"):
        axes.set_ylim(-0.04, 1.06)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _label_last(axes: Axes, dots: Series, quantity: Quantity, colour: str, *, is_alone: bool) -> None:
    """The figure reached, where one run leaves room for it."""
    if not is_alone:
        return
    x, y = dots[0][-1], dots[1][-1]
    axes.annotate(
        quantity.form.format(y), (x, y), xytext=(6, 0), textcoords="offset points", ha="left", va="center",
        color=colour, fontsize=8.5, fontweight="bold",
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
        axes.plot(x, running_mean(y), color=colour, linewidth=1.5)
    if lows and min(lows) > 0 and max(lows) > 30 * min(lows):
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_title(name.removeprefix("loss/").replace("_", " "), fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    _format_abscissa(axes, runs, "env_steps")


def _format_abscissa(axes: Axes, runs: Sequence[RunRecords], x: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if x == "env_steps":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    furthest = max((row[x] for run in runs for row in run.rows if x in row), default=1.0)
    axes.set_xlim(0, 1.09 * max(furthest, 1e-6))


def _draw_bound(axes: Axes, bound: float) -> None:
    axes.axhline(bound, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        f"time-optimal {bound:.2f} s", (0.01, bound), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", color=MUTED, fontsize=8,
    )  # fmt: skip


def _draw_names(figure: Figure, runs: Sequence[RunRecords]) -> None:
    """The runs by colour, from the upper right corner leftwards."""
    y, x = 1 - 0.22 / figure.get_figheight(), 0.975
    for index, run in reversed(list(enumerate(runs))):
        name = figure.text(
            x, y, f"● {run.name}", color=CYCLE[index % len(CYCLE)], fontsize=9, ha="right", va="center"
        )
        x -= (len(name.get_text()) + 2) * 0.0072


def _is_signal(name: str) -> bool:
    return name not in _COUNTERS and not name.startswith(_NOT_A_SIGNAL)
