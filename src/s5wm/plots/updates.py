"""Time of updates against chunk length and model size, one line for each agent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from s5wm.plots.style import CYCLE, heading, new_figure

PARTS = (("world_model", "world model"), ("actor_critic", "actor-critic"), ("update", "whole update"))


def draw_updates(device: str, results: Sequence[dict[str, Any]]) -> Figure:
    """Panels: parts that were timed at several lengths, over the length of a chunk; then every part over parameters.

    ``results`` are those of ``benchmarks/update.py``; a part that was not timed everywhere has fewer points.
    """
    results = [result for result in results if "s5wm" in result["agents"]]  # those of vectors
    agents = list(dict.fromkeys(name for result in results for name in result["agents"]))
    over_length = [part for part in PARTS if _is_swept(results, part[0])]
    panels = [(part, True) for part in over_length] + [(part, False) for part in PARTS]
    columns = len(panels) if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    figure = new_figure(12.5 if columns == 4 else 11.0, 0.5 + 3.0 * rows)
    top = 1.0 - 0.95 / (0.5 + 3.0 * rows)
    grid = figure.add_gridspec(
        rows, columns, left=0.05, right=0.985, top=top, bottom=0.15 / rows, hspace=0.42, wspace=0.24
    )
    for index, ((part, title), is_over_length) in enumerate(panels):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        axes.set_title(f"{title}, ms")
        (_over_length if is_over_length else _over_parameters)(axes, results, agents, part)
    heading(figure, f"Time of an update, {device}", "medians with the 5th to 95th percentile of the samples")
    for index, name in enumerate(agents):
        figure.text(
            0.985, 0.965 - 0.07 / rows * index, f"● {name}", color=CYCLE[index], ha="right", va="center"
        )  # fmt: skip
    return figure


def _is_swept(results: Sequence[dict[str, Any]], part: str) -> bool:
    timed = [r for r in results if any(f"{part}_ms" in own for own in r["agents"].values())]
    return any(len({r["length"] for r in timed if r["size"] == size}) > 1 for size in _sizes(results))


def _over_length(axes: Axes, results: Sequence[dict[str, Any]], agents: Sequence[str], part: str) -> None:
    for index, agent in enumerate(agents):
        for style, size in zip(("o-", "s--", "^:"), _sizes(results), strict=False):
            chosen = [result for result in results if result["size"] == size]
            label = size if index == 0 else ""
            _draw(axes, chosen, agent, part, lambda r, _: r["length"], CYCLE[index], style, label)
    _finish(axes, "chunk length T", sorted({float(result["length"]) for result in results}))
    axes.legend(loc="upper left", handlelength=2.6)


def _over_parameters(axes: Axes, results: Sequence[dict[str, Any]], agents: Sequence[str], part: str) -> None:
    preset = _unswept(results)
    for index, agent in enumerate(agents):
        _draw(axes, preset, agent, part, lambda _, own: own["params"] / 1e6, CYCLE[index], "o-", "")
    first = [result["agents"][agents[0]]["params"] / 1e6 for result in preset]
    _finish(axes, "parameters, M", [float(f"{million:.2g}") for million in first])


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
    # The first of those at one place, as in the tables: a length that is swept may be that of the preset, too.
    points = sorted({abscissa(r, own): own[f"{part}_samples_ms"] for r, own in reversed(timed)}.items())
    if not points:
        return
    x = [point[0] for point in points]
    low, median, high = np.array([np.percentile(point[1], [5, 50, 95]) for point in points]).T
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, median, style, color=colour, linewidth=1.6, markersize=4, label=label)


def _finish(axes: Axes, abscissa: str, ticks: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(abscissa)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
