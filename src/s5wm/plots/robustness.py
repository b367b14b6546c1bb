"""Success under perturbations as a heat map."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from s5wm.plots.style import heading, new_figure

LEFT, RIGHT, BOTTOM = 0.14, 0.97, 0.07
HEAD = 0.9  # inches above the axes


def draw_robustness(result: dict[str, Any]) -> Figure:
    """A row for each suite, a column for each strength; ``result`` is what ``perturb_run`` returns.

    Cells show the rate of success and, where the task has laps, the mean lap time.
    """
    names, strengths = list(result["suites"]), result["strengths"]
    columns = [0.0, *strengths]
    rows = [[result["nominal"], *result["suites"][name]] for name in names]
    success = np.array([[cell["success_rate"] for cell in row] for row in rows])
    high = HEAD + 0.5 + 0.42 * len(names)
    figure = new_figure(6.4, high)
    axes = figure.add_axes((LEFT, BOTTOM, RIGHT - LEFT, 1.0 - HEAD / high - BOTTOM))
    axes.imshow(success, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto", alpha=0.75)
    axes.set_xticks(range(len(columns)), ["as trained", *(f"{value:g} x" for value in strengths)])
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(False)
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            axes.text(column, row, _text(cell), ha="center", va="center", fontsize=8, color="black")
    facts = "   ·   ".join(filter(None, (f"{result['episodes']} episodes each", result.get("caption"))))
    heading(figure, f"{result['run']}: perturbations", facts)
    return figure


def _text(cell: dict[str, Any]) -> str:
    lap = cell.get("lap_time_mean")
    return f"{cell['success_rate']:.0%}" + ("" if lap is None else f"   {lap:.2f}")
