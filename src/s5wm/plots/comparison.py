"""Comparison of agents: means over seeds with their spread, and every seed as a thin line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from s5wm.evaluation.estimates import FEW, Estimate, estimate
from s5wm.experiments.comparison import AXES, short_steps
from s5wm.experiments.curves import RETURN, Curve, Over
from s5wm.plots.curves import running_mean
from s5wm.plots.style import CYCLE, bound_line, heading, new_figure, training_axis

POINTS = 240
WINDOW = 0.08
"""Share of a training that one point of a smoothed curve is the mean of."""

SPARSE = 4
"""Evaluations below which each is marked."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is drawn of one signal."""

    signal: str
    title: str
    is_rate: bool = False
    is_best_so_far: bool = False  # the lowest value until then; else a running mean


PANELS = (
    Panel(signal="eval/return_nominal", title="return"),
    Panel(signal="eval/success", title="success", is_rate=True),
    Panel(signal="eval/gates", title="gates per flight"),
    Panel(signal="eval/lap_time", title="best lap so far, s", is_best_so_far=True),
)


def draw_comparison(task: str, groups: Mapping[str, Sequence[Curve]], *, over: Over = "steps") -> Figure:
    """Return, success, and for a race gates and laps, over environment steps or over minutes."""
    curves = [curve for group in groups.values() for curve in group]
    panels = [panel for panel in PANELS if any(curve.has(panel.signal) for curve in curves)]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    above = 0.75 + 0.2 * max(len(groups) - 1, 1)  # inches, for the heading
    height = above + 2.9 * rows
    figure = new_figure(11.0, height)
    grid = figure.add_gridspec(
        rows, columns, left=0.055, right=0.985, top=1.0 - above / height, bottom=0.5 / height, wspace=0.14, hspace=0.36,
    )  # fmt: skip
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        _prepare(axes, curves, panel, over)
        for index, group in enumerate(groups.values()):
            _draw_group(axes, group, panel, over, CYCLE[index % len(CYCLE)])
    heading(figure, f"{task}: evaluations", _caption(groups), top=1.0 - 0.25 / height)
    for index, (name, group) in enumerate(groups.items()):
        figure.text(
            0.985, 1.0 - (0.25 + 0.2 * index) / height, f"● {name}, {len(group)} seed{'s' * (len(group) > 1)}",
            color=CYCLE[index % len(CYCLE)], ha="right", va="center",
        )  # fmt: skip
    return figure


def _caption(groups: Mapping[str, Sequence[Curve]]) -> str:
    most = max(len(group) for group in groups.values())
    parts = ["running means"]
    if most > 1:
        parts += ["bold: mean over seeds, inter-quartile but for success", "thin: each seed"]
    if most > FEW:
        parts.append(f"band: 95 % interval of more than {FEW} seeds")
    if any(_begun(curve) is not None for group in groups.values() for curve in group):
        parts.append("dotted: training episodes before the first evaluation")
    lines = (parts[:2], parts[2:])  # one line would run into the legend
    return "\n".join("   ·   ".join(line) for line in lines if line)


def smoothed(x: Float[np.ndarray, " K"], values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Mean over a window centred on each place, narrower at both ends, so that it does not lag; NaN stays NaN."""
    reach = np.minimum(0.5 * WINDOW * x[-1], np.minimum(x - x[0], x[-1] - x))
    near = np.abs(x[:, None] - x[None]) <= reach[:, None] * (1.0 + 1e-9)
    near &= np.isfinite(values)[None]
    means = near @ np.nan_to_num(values) / np.maximum(near.sum(1), 1)
    return np.where(np.isfinite(values), means, np.nan)


def best_so_far(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The lowest value until then; NaN before the first."""
    return np.fmin.accumulate(values)


def on_grid(
    x: Float[np.ndarray, " K"], values: Float[np.ndarray, " K"], grid: Float[np.ndarray, " G"]
) -> Float[np.ndarray, " G"]:
    """Values held from one evaluation to the next; NaN before the first."""
    index = np.searchsorted(x, grid, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan)


def _draw_group(axes: Axes, group: Sequence[Curve], panel: Panel, over: Over, colour: str) -> None:
    style = "steps-post" if panel.is_best_so_far else "default"
    drawn = [(curve.along(over), _shown(curve, panel, over)) for curve in group if curve.has(panel.signal)]
    is_alone = len(group) == 1
    for x, values in drawn:
        marker = "o" if np.isfinite(values).sum() < SPARSE else None
        width, alpha = (2.0, 1.0) if is_alone else (0.7, 0.35)
        axes.plot(
            x, values, color=colour, linewidth=width, alpha=alpha, drawstyle=style, marker=marker,
            markersize=5.0, markeredgecolor="white",
        )  # fmt: skip
    if not panel.is_best_so_far:
        for curve in group:
            _draw_begun(axes, curve, panel, over, colour)
    if is_alone or not drawn:
        return
    # As far as all seeds of the agent go.
    ends = [curve.along(over) for curve in group]
    begin, end = max(x[0] for x in ends), min(x[-1] for x in ends)
    spaced = np.geomspace if axes.get_xscale() == "log" else np.linspace
    grid = spaced(begin, max(begin, end), POINTS)
    columns = np.stack([_resampled(x, values, grid, panel) for x, values in drawn]).T
    bands = [_estimate(column, panel) for column in columns]
    if len(drawn) > FEW:  # the seeds themselves show the range of few
        axes.fill_between(
            grid, [b.low for b in bands], [b.high for b in bands], color=colour, alpha=0.13, linewidth=0
        )
    marker = "o" if end <= begin else None
    axes.plot(grid, [b.value for b in bands], color=colour, linewidth=2.2, marker=marker)


def _begun(curve: Curve) -> Curve | None:
    """Its training episodes up to the first evaluation, which alone show what it learned until then."""
    begun = None if curve.training is None else curve.training.until(curve.env_steps[0])
    return begun if begun is not None and begun.has(RETURN) else None


def _begin(curve: Curve, over: Over) -> float:
    begun = _begun(curve)
    return float((begun or curve).along(over)[0])


def _draw_begun(axes: Axes, curve: Curve, panel: Panel, over: Over, colour: str) -> None:
    """The way to the first evaluation, in training episodes."""
    begun = _begun(curve)
    if begun is None or not (curve.has(panel.signal) and begun.has(panel.signal)):
        return
    known = np.isfinite(begun.signals[panel.signal])
    x, values = begun.along(over)[known], running_mean(begun.signals[panel.signal][known])
    axes.plot(x, values, color=colour, linewidth=1.3, alpha=0.8, linestyle=(0, (1, 1.6)))


def _shown(curve: Curve, panel: Panel, over: Over) -> Float[np.ndarray, " K"]:
    values = curve.signals[panel.signal]
    return best_so_far(values) if panel.is_best_so_far else smoothed(curve.along(over), values)


def _resampled(
    x: Float[np.ndarray, " K"], values: Float[np.ndarray, " K"], grid: Float[np.ndarray, " G"], panel: Panel
) -> Float[np.ndarray, " G"]:
    return on_grid(x, values, grid) if panel.is_best_so_far else np.interp(grid, x, values)


def _estimate(column: Float[np.ndarray, " S"], panel: Panel) -> Estimate:
    """Over seeds, NaN before all have a value: a line that another seed joins would jump though none became worse."""
    if not np.isfinite(column).all():
        return Estimate(np.nan, np.nan, np.nan, 0)
    return estimate(column.tolist(), is_rate=panel.is_rate)


def _prepare(axes: Axes, curves: Sequence[Curve], panel: Panel, over: Over) -> None:
    axes.set_title(panel.title)
    spans = [(_begin(curve, over), float(curve.along(over)[-1])) for curve in curves]
    training_axis(axes, spans, short_steps if over == "steps" else "{:g}".format, room=0.03)
    axes.set_xlabel(AXES[over])
    if panel.is_rate:
        axes.set_ylim(-0.04, 1.06)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if panel.is_best_so_far:
        _fit_laps(axes, curves, panel)


def _fit_laps(axes: Axes, curves: Sequence[Curve], panel: Panel) -> None:
    """Room for what was reached: the first laps of a training may take twice as long and would flatten the rest."""
    reached = [best_so_far(curve.signals[panel.signal])[-1] for curve in curves if curve.has(panel.signal)]
    bounds = {curve.bound for curve in curves} - {None}
    if len(bounds) == 1 and (bound := bounds.pop()) is not None:
        bound_line(axes, bound)
        reached.append(bound)
    low, high = min(reached), max(reached)
    room = max(high - low, 0.1 * low)
    axes.set_ylim(low - 0.08 * room, high + 0.6 * room)
