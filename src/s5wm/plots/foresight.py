"""Error against horizon of several world models in the same axes."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from s5wm.plots.imagination import DEVIATION, draw_band
from s5wm.plots.style import CYCLE, heading, new_figure
from s5wm.runs.predictions import ErrorBand


def draw_foresight(result: dict[str, Any]) -> Figure:
    """One panel for each state group and the reward; ``result`` is what ``compare_imagination`` returns.

    What a shipped policy cannot foresee, a reward, has a panel where another agent can.
    """
    agents = {name: bands_of(own) for name, own in result["agents"].items()}
    groups = list(dict.fromkeys(group for bands in agents.values() for group in bands))
    columns = -(-len(groups) // 2)
    figure = new_figure(3.6 * columns, 5.6)
    grid = figure.add_gridspec(
        2, columns, left=0.06, right=0.985, top=0.79, bottom=0.09, hspace=0.42, wspace=0.24
    )
    for index, group in enumerate(groups):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        for own, bands in enumerate(agents.values()):
            if group not in bands:
                continue
            draw_band(
                axes, group, bands[group], result["ctrl_dt"], CYCLE[own % len(CYCLE)], shade=0.1, place=own
            )
        axes.set_xlabel("s ahead")
    seconds = result["horizon"] * result["ctrl_dt"]
    facts = (
        f"{result['horizon']} steps, {seconds:.2f} s ahead along real actions",
        f"{result['steps']:,} steps flown by all policies",
        "median and 90 % band",
        DEVIATION,
    )
    heading(figure, f"{result['task']}: foresight", "   ·   ".join(facts))
    for index, name in enumerate(agents):
        figure.text(
            0.985, 0.965 - 0.045 * index, f"● {name}", color=CYCLE[index % len(CYCLE)], ha="right", va="center"
        )  # fmt: skip
    return figure


def bands_of(agent: dict[str, Any]) -> dict[str, ErrorBand]:
    """Curves of one agent; null, where no flight lasted so long, becomes NaN."""

    def values(curve: list[float | None]) -> np.ndarray:
        return np.array([np.nan if value is None else value for value in curve])

    return {
        group: ErrorBand(
            unit=band["unit"],
            median=values(band["median"]),
            lo=values(band["lo"]),
            hi=values(band["hi"]),
            deviation=float("nan") if band.get("deviation") is None else band["deviation"],
        )
        for group, band in agent["error"].items()
    }
