"""Open-loop imagination against reality: fans of futures over the real flight, and error against horizon."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from s5wm.fans import ErrorBand, Fans
from s5wm.flights import Course
from s5wm.plots.camera import Camera, from_above, from_the_side
from s5wm.plots.records import policy_of
from s5wm.plots.scene import Scene, draw_gates, draw_ground, extent_of, fit_limits, plain_colours
from s5wm.plots.style import IMAGINED, INK, MUTED, coloured_line, heading, new_figure

MOST_MOMENTS = 6
"""Fans drawn; of more, some spread evenly."""


def draw_imagination(fans: Fans, course: Course | None, title: str) -> Figure:
    """Fans from above and from the side, and the median error with its 90 % band for every state group."""
    figure = new_figure(13.0, 7.0)
    moments = spread(len(fans.real_pos))
    plan = figure.add_axes((0.01, 0.33, 0.50, 0.53))
    side = figure.add_axes((0.01, 0.04, 0.50, 0.22))
    _draw_fans(plan, from_above(), fans, moments, course)
    _draw_fans(side, from_the_side(), fans, moments, course)
    _draw_errors(figure, fans)
    steps = fans.real_pos.shape[1] - 1
    whose = policy_of(fans.about)
    facts = (
        *([f"world model and flights of the {whose}"] if whose else []),
        f"{fans.imagined_pos.shape[1]} futures imagined from each of {len(moments)} moments along the real actions",
        f"{steps} steps, {steps * fans.dt:.2f} s ahead",
    )
    heading(figure, title, "   ·   ".join(facts))
    handles = [
        Line2D([], [], color=INK, linewidth=2.2, label="real"),
        Line2D([], [], color=IMAGINED, label="imagined"),
    ]
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(0.985, 0.985), ncols=2, labelcolor=MUTED
    )
    return figure


def spread(count: int) -> list[int]:
    """At most ``MOST_MOMENTS`` of so many moments, evenly spread."""
    return np.unique(np.linspace(0, count - 1, MOST_MOMENTS).round().astype(int)).tolist()


def _draw_fans(axes: Axes, camera: Camera, fans: Fans, moments: Sequence[int], course: Course | None) -> None:
    scene = Scene(axes=axes, camera=camera)
    real, imagined = fans.real_pos[moments], fans.imagined_pos[moments]
    everywhere = np.concatenate(
        [real.reshape(-1, 3), np.nanpercentile(imagined.reshape(-1, 3), [2, 98], axis=0)]
    )
    everywhere = everywhere[np.isfinite(everywhere).all(axis=-1)]
    extent = extent_of(course, [everywhere])
    draw_ground(scene, extent)
    if course is not None:
        draw_gates(scene, course, plain_colours(course))
    scene.finish()
    _draw_futures(scene, real, imagined)
    fit_limits(scene, extent, course, [everywhere])


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


def _draw_errors(figure: Figure, fans: Fans) -> None:
    rows = max(1, -(-len(fans.errors) // 2))
    grid = figure.add_gridspec(
        rows, 2, left=0.57, right=0.985, top=0.85, bottom=0.085, hspace=0.24 + 0.1 * rows, wspace=0.22
    )
    for index, (group, band) in enumerate(fans.errors.items()):
        axes = figure.add_subplot(grid[index // 2, index % 2])
        draw_band(axes, group, band, fans.dt, IMAGINED, shade=0.16)
        if index + 2 >= len(fans.errors):
            axes.set_xlabel("s ahead")


def draw_band(  # noqa: PLR0913 - one curve of a panel
    axes: Axes, group: str, band: ErrorBand, dt: float, colour: str, *, shade: float, place: int = 0
) -> None:
    """Median and band of one group against the horizon, the median's last value above it.

    Of several curves in a panel, each takes another ``place``, so that their values do not cover each other.
    """
    ahead = dt * np.arange(1, len(band.median) + 1)
    axes.fill_between(ahead, band.lo, band.hi, color=colour, alpha=shade, linewidth=0)
    axes.plot(ahead, band.median, color=colour, linewidth=1.8)
    finite = np.flatnonzero(np.isfinite(band.median))
    if len(finite):
        last = band.median[finite[-1]]
        axes.annotate(
            f"{last:.2g} {band.unit}".strip(), (ahead[finite[-1]], last), xytext=(-3, 4 + 11 * place),
            textcoords="offset points", ha="right", color=colour, fontsize=8.5, fontweight="bold",
        )  # fmt: skip
    axes.set_title(f"{group}, {band.unit}" if band.unit else group)
    axes.set_xlim(0.0, ahead[-1])
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5))
