"""Agents beside each other: inter-quartile means over seeds with their intervals, every seed thin behind them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from s5wm.comparison import Curve, estimate, on_grid
from s5wm.plots.style import CYCLE, heading, new_figure

POINTS = 60
PANELS = (("eval/success", "success"), ("eval/gates", "gates per flight"), ("eval/lap_time", "lap time, s"))


def draw_comparison(task: str, groups: Mapping[str, Sequence[Curve]]) -> Figure:
    """Success, gates and lap time; over environment steps above, over minutes below."""
    figure = new_figure(11.0, 6.2)
    grid = figure.add_gridspec(2, 3, left=0.06, right=0.985, top=0.82, bottom=0.08, hspace=0.42, wspace=0.2)
    for column, (signal, title) in enumerate(PANELS):
        for row, abscissa in enumerate(("env_steps", "minutes")):
            axes = figure.add_subplot(grid[row, column])
            for index, group in enumerate(groups.values()):
                _draw_group(axes, group, signal, abscissa, CYCLE[index % len(CYCLE)])
            _finish(axes, signal, title if row == 0 else "", abscissa)
    heading(
        figure,
        f"{task}: evaluations",
        "bold: inter-quartile mean over seeds   ·   band: range, from five seeds on a 95 % interval   ·   thin: each",
    )
    for index, (name, group) in enumerate(groups.items()):
        figure.text(
            0.985, 0.965 - 0.04 * index, f"● {name}, {len(group)} seed{'s' * (len(group) > 1)}",
            color=CYCLE[index % len(CYCLE)], ha="right", va="center",
        )  # fmt: skip
    return figure


def _draw_group(axes: Axes, group: Sequence[Curve], signal: str, abscissa: str, colour: str) -> None:
    for curve in group:
        x = curve.env_steps if abscissa == "env_steps" else curve.minutes
        axes.plot(
            x,
            curve.signals[signal],
            color=colour,
            linewidth=0.7 if len(group) > 1 else 1.6,
            alpha=0.35 if len(group) > 1 else 0.9,
        )
    if len(group) < 2:
        return
    # Seeds of an agent take the same time for a step up to noise: minutes are those of the mean pace.
    grid = np.linspace(max(c.env_steps[0] for c in group), min(c.env_steps[-1] for c in group), POINTS)
    pace = np.mean([curve.minutes[-1] / curve.env_steps[-1] for curve in group])
    values = np.stack([on_grid(curve, signal, grid) for curve in group])
    # NaN where some seed has no value: the line has a gap there.
    bands = [estimate(column.tolist()) for column in values.T]
    x = grid * (1.0 if abscissa == "env_steps" else pace)
    axes.fill_between(
        x, [b.low for b in bands], [b.high for b in bands], color=colour, alpha=0.15, linewidth=0
    )
    axes.plot(x, [b.value for b in bands], color=colour, linewidth=2.0)


def _finish(axes: Axes, signal: str, title: str, abscissa: str) -> None:
    axes.set_title(title)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(left=0)
    if abscissa == "env_steps":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps" if abscissa == "env_steps" else "minutes")
    if signal == "eval/success":
        axes.set_ylim(-0.04, 1.06)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
