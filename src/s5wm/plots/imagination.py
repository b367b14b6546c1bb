"""Open-loop imagination against reality: predicted futures over the real flight, and error over the horizon."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s5wm.plots.camera import Camera, from_above, from_the_side
from s5wm.plots.records import policy_of
from s5wm.plots.scene import (
    MARGIN,
    Extent,
    Scene,
    draw_gates,
    draw_ground,
    extent_of,
    fit_limits,
    plain_colours,
)
from s5wm.plots.style import IMAGINED, INK, MUTED, coloured_line, heading, new_figure, plain_number
from s5wm.runs.flights import TrackGeometry
from s5wm.runs.predictions import ErrorBand, OpenLoopPredictions

DECADES = 4
"""Of an error axis, at most."""

HEADROOM = 10.0
"""An axis of errors ends at most so many times above the largest median: few predictions may be far worse."""

ACROSS = 4
"""Panels side by side in a picture of errors alone."""

INFINITE = 1e30
"""Where the edge of a band is drawn that is infinite."""

DEVIATION = "dashed: standard deviation of the real values"

MOST_MOMENTS = 6
"""OpenLoopPredictions drawn; of more, some spread evenly."""


def draw_imagination(predictions: OpenLoopPredictions, track: TrackGeometry | None, title: str) -> Figure:
    """Predictions from above and from the side, and the median error with its 90 % band for every state group.

    The errors alone, where the task has no positions.
    """
    if not len(predictions.real_pos):
        return _draw_errors_alone(predictions, title)
    figure = new_figure(13.0, 7.0)
    moments = spread(len(predictions.real_pos))
    plan = figure.add_axes((0.01, 0.33, 0.50, 0.53))
    side = figure.add_axes((0.01, 0.04, 0.50, 0.25))
    real, extent = predictions.real_pos[moments], _room(predictions, moments, track)
    futures = within(predictions.imagined_pos[moments], extent)
    for axes, camera in ((plan, from_above()), (side, from_the_side())):
        _draw_view(axes, camera, (real, futures), extent, track)
    rows = max(1, -(-len(predictions.errors) // 2))
    grid = figure.add_gridspec(
        rows, 2, left=0.57, right=0.985, top=0.85, bottom=0.085, hspace=0.24 + 0.1 * rows, wspace=0.22
    )
    _draw_errors(figure, predictions, grid)
    facts = (
        *_whose(predictions, "flights"),
        f"{predictions.imagined_pos.shape[1]} futures imagined from each of {len(moments)} moments along the real "
        "actions",
        *_cut(predictions.imagined_pos[moments], futures),
    )
    lines = (facts, (_ahead(predictions), DEVIATION))  # in one line they would leave the picture
    heading(figure, title, "\n".join("   ·   ".join(line) for line in lines))
    handles = [
        Line2D([], [], color=INK, linewidth=2.2, label="real"),
        Line2D([], [], color=IMAGINED, label="imagined"),
    ]
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(0.985, 0.985), ncols=2, labelcolor=MUTED
    )
    return figure


def _draw_errors_alone(predictions: OpenLoopPredictions, title: str) -> Figure:
    columns = min(len(predictions.errors), ACROSS)
    rows = -(-len(predictions.errors) // columns)
    height = 1.4 + 2.2 * rows
    figure = new_figure(max(3.4 * columns, 9.0), height)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.06,
        right=0.985,
        top=1.0 - 1.15 / height,
        bottom=0.5 / height,
        hspace=0.45,
        wspace=0.24,
    )
    _draw_errors(figure, predictions, grid)
    facts = (*_whose(predictions, "episodes"), _ahead(predictions), "median and 90 % band", DEVIATION)
    heading(figure, title, "   ·   ".join(facts), top=1.0 - 0.3 / height)
    return figure


def _whose(predictions: OpenLoopPredictions, flown: str) -> list[str]:
    whose = policy_of(predictions.about)
    return [f"world model and {flown} of the {whose}"] if whose else []


def _ahead(predictions: OpenLoopPredictions) -> str:
    steps = predictions.real_pos.shape[1] - 1
    return f"{steps} steps, {steps * predictions.dt:.2f} s ahead"


def spread(count: int) -> list[int]:
    """At most ``MOST_MOMENTS`` of so many moments, evenly spread."""
    return np.unique(np.linspace(0, count - 1, MOST_MOMENTS).round().astype(int)).tolist()


def _room(predictions: OpenLoopPredictions, moments: Sequence[int], track: TrackGeometry | None) -> Extent:
    """The track, what was flown, and some room around it: futures of a poor model go anywhere."""
    flown = predictions.real_pos[moments].reshape(-1, 3)
    flown = flown[np.isfinite(flown).all(axis=-1)]
    extent = extent_of(track, [flown])
    return Extent(lo=extent.lo, hi=extent.hi + [0.0, 0.0, MARGIN])


def within(futures: Float[np.ndarray, "E S H1 3"], extent: Extent) -> Float[np.ndarray, "E S H1 3"]:
    """Futures up to where each leaves the room between two corners, NaN from there on."""
    inside = np.all((futures >= extent.lo) & (futures <= extent.hi), axis=-1)
    inside = np.logical_and.accumulate(inside | ~np.isfinite(futures).all(axis=-1), axis=-1)
    return np.where(inside[..., None], futures, np.nan)


def _cut(futures: Float[np.ndarray, "E S H1 3"], kept: Float[np.ndarray, "E S H1 3"]) -> list[str]:
    """The share of futures that are not drawn to their end."""
    left = (np.isfinite(futures) & ~np.isfinite(kept)).any(axis=(-1, -2)).mean()
    return [f"{left:.0%} of them leave the view"] if left > 0 else []


def _draw_view(
    axes: Axes,
    camera: Camera,
    paths: tuple[Float[np.ndarray, "E H1 3"], Float[np.ndarray, "E S H1 3"]],
    extent: Extent,
    track: TrackGeometry | None,
) -> None:
    scene = Scene(axes=axes, camera=camera)
    draw_ground(scene, extent)
    if track is not None:
        draw_gates(scene, track, plain_colours(track))
    scene.finish()
    _draw_futures(scene, *paths)
    fit_limits(scene, extent, track, [np.stack([extent.lo, extent.hi])])


def _draw_futures(
    scene: Scene, real: Float[np.ndarray, "E H1 3"], imagined: Float[np.ndarray, "E S H1 3"]
) -> None:
    flat, _ = scene.camera.project(imagined.reshape(-1, *imagined.shape[2:]))
    shade = max(0.12, min(0.6, 8.0 / imagined.shape[1]))
    scene.axes.add_collection(coloured_line(list(flat), to_rgba(IMAGINED, shade), 0.9, 200.0))
    scene.axes.scatter(
        flat[:, -1, 0], flat[:, -1, 1], s=5, color=to_rgba(IMAGINED, 0.7), linewidths=0, zorder=201
    )
    flat, _ = scene.camera.project(real)
    scene.axes.add_collection(coloured_line(list(flat), INK, 1.8, 202.0))
    scene.mark(real[:, 0], "o", INK, 22.0)


def _draw_errors(figure: Figure, predictions: OpenLoopPredictions, grid: GridSpec) -> None:
    for index, (group, band) in enumerate(predictions.errors.items()):
        axes = figure.add_subplot(grid[index // grid.ncols, index % grid.ncols])
        draw_band(axes, group, band, predictions.dt, IMAGINED, shade=0.16)
        if index + grid.ncols >= len(predictions.errors):
            axes.set_xlabel("s ahead")


def draw_band(  # noqa: PLR0913 - one curve of a panel
    axes: Axes, group: str, band: ErrorBand, dt: float, colour: str, *, shade: float, place: int = 0
) -> None:
    """Median and band of one group against the horizon on a logarithmic axis, the median's last value in the corner.

    Of several curves in a panel, each takes another ``place``, so that their values do not cover each other.
    """
    ahead = dt * np.arange(1, len(band.median) + 1)
    # A polygon has no corner at infinity.
    lo, hi = (np.where(np.isposinf(edge), INFINITE, edge) for edge in (band.lo, band.hi))
    axes.fill_between(ahead, lo, hi, color=colour, alpha=shade, linewidth=0)
    axes.plot(ahead, band.median, color=colour, linewidth=1.8)
    if place == 0 and band.deviation > 0.0:
        axes.axhline(band.deviation, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    finite = np.flatnonzero(np.isfinite(band.median))
    if len(finite):
        axes.annotate(
            f"{plain_number(float(band.median[finite[-1]]))} {band.unit}".strip(), (1.0, 0.0),
            xycoords="axes fraction", xytext=(-4, 5 + 11 * place), textcoords="offset points", ha="right",
            color=colour, fontsize=8.5, fontweight="bold", path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
    name = group.replace("_", " ")
    axes.set_title(f"{name}, {band.unit}" if band.unit else name)
    axes.set_xlim(0.0, ahead[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _logarithmic(axes, band)


def _logarithmic(axes: Axes, band: ErrorBand) -> None:
    """Room for the median, as much of the band as ``DECADES`` hold, and what is drawn already.

    Errors that are all zero stay on a line.
    """
    values = _positive(np.concatenate([band.lo, band.median, band.hi, [band.deviation]]))
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    median = _positive(band.median)
    if len(median):  # it stays inside, whatever a few predictions and the real values are like
        top = float(median.max())
        high = min(high, max(HEADROOM * top, float(np.nan_to_num(band.deviation))), 0.1 * 10.0**DECADES * top)
    low = max(low, high / 10.0**DECADES)
    if axes.get_yscale() == "log":  # another curve was drawn before
        low, high = min(low, axes.get_ylim()[0] * 1.3), max(high, axes.get_ylim()[1] / 1.3)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.3, high * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30.0 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value, 1)))
    axes.yaxis.set_minor_locator(NullLocator())


def _positive(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " P"]:
    return values[np.isfinite(values) & (values > 0.0)]
