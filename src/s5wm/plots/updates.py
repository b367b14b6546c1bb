"""Time of updates against chunk length and model size, agents beside each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from s5wm.plots.style import CYCLE, heading, new_figure

PARTS = (("world_model", "world model"), ("actor_critic", "actor-critic"), ("update", "whole update"))


def draw_updates(device: str, results: Sequence[dict[str, Any]]) -> Figure:
    """Columns: the parts of an update.  Above: over the length of a chunk, sizes apart; below: over parameters.

    ``results`` are those of ``benchmarks/update.py``; a part that was not timed everywhere has fewer points.
    """
    results = [result for result in results if "s5wm" in result["agents"]]  # those of vectors
    figure = new_figure(11.0, 6.4)
    grid = figure.add_gridspec(2, 3, left=0.07, right=0.985, top=0.82, bottom=0.08, hspace=0.42, wspace=0.2)
    agents = list(dict.fromkeys(name for result in results for name in result["agents"]))
    for column, (part, title) in enumerate(PARTS):
        above, below = figure.add_subplot(grid[0, column]), figure.add_subplot(grid[1, column])
        for index, agent in enumerate(agents):
            for style, size in zip(("o-", "s--", "^:"), _sizes(results), strict=False):
                chosen = [result for result in results if result["size"] == size]
                label = size if index == 0 else ""
                _draw(above, chosen, agent, part, lambda r, _: r["length"], CYCLE[index], style, label)
            preset = _unswept(results)
            _draw(below, preset, agent, part, lambda _, own: own["params"] / 1e6, CYCLE[index], "o-", "")
        above.set_title(f"{title}, ms")
        _finish(above, "chunk length T", sorted({result["length"] for result in results}))
        _finish(below, "parameters, M", None)
        if above.get_legend_handles_labels()[0]:
            above.legend(loc="upper left", handlelength=2.6)
    heading(figure, f"Time of an update, {device}", "medians with the 5th to 95th percentile of the samples")
    for index, name in enumerate(agents):
        figure.text(
            0.985, 0.965 - 0.04 * index, f"● {name}", color=CYCLE[index], ha="right", va="center"
        )  # fmt: skip
    return figure


def _sizes(results: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(result["size"] for result in results))


def _unswept(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of each size: that of its preset."""
    return [next(result for result in results if result["size"] == size) for size in _sizes(results)]


def _draw(  # noqa: PLR0913 - one line of a plot
    axes: Axes,
    results: Sequence[dict[str, Any]],
    agent: str,
    part: str,
    abscissa: Any,
    colour: str,
    style: str,
    label: str,
) -> None:
    timed = [(r, r["agents"][agent]) for r in results if f"{part}_samples_ms" in r["agents"].get(agent, {})]
    points = sorted((abscissa(r, own), own[f"{part}_samples_ms"]) for r, own in timed)
    if not points:
        return
    x = [point[0] for point in points]
    low, median, high = np.array([np.percentile(point[1], [5, 50, 95]) for point in points]).T
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, median, style, color=colour, linewidth=1.6, markersize=4, label=label)


def _finish(axes: Axes, abscissa: str, ticks: Sequence[float] | None) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(abscissa)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.xaxis.set_major_formatter(plain)
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
