"""The race track seen through a camera: ground, gates with number and direction, and what flies there."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.patheffects import withStroke

from s5wm.plots.camera import Camera
from s5wm.plots.style import (
    FAINT,
    GRID,
    GROUND,
    INK,
    MISSED,
    MUTED,
    PASSED,
    SPEED,
    UNREACHED,
    bare,
    coloured_line,
)
from s5wm.runs.flights import TrackGeometry

MARGIN = 1.2
"""m of ground around everything that is drawn."""

_GRIDS = (2.0, 0.5, 0.1)  # m between the lines on the ground, the first that gives a few
_LEVELS = 40  # colours of a line
_SOLID = 100.0  # z-order of the furthest solid; labels lie above all of them
_LABEL = 1000.0
_WORST = (MISSED, PASSED, UNREACHED)  # colours of gates, the worst first


@dataclass(frozen=True, kw_only=True, eq=False)
class Extent:
    """Corners of everything that is drawn, m."""

    lo: Float[np.ndarray, " 3"]
    hi: Float[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One picture under construction.  Solids are kept until ``finish`` knows the order of their depths."""

    axes: Axes
    camera: Camera
    bars: list[Float[np.ndarray, "4 3"]] = field(default_factory=list)
    bar_frames: list[int] = field(
        default_factory=list
    )  # the frame it belongs to, by ``TrackGeometry.physical``
    bar_colours: list[str] = field(default_factory=list)
    words: list[Float[np.ndarray, " 2"]] = field(default_factory=list)  # where they are in the picture

    def line(self, points: Float[np.ndarray, "T 3"], colour: str, width: float, zorder: float = 2.0) -> None:
        """A plain line that covers nothing and is covered by every solid."""
        flat, _ = self.camera.project(points)
        self.axes.add_collection(coloured_line([flat], colour, width, zorder))

    def path(
        self, points: Float[np.ndarray, "T 3"], speed: Float[np.ndarray, " T"], scale: Normalize, width: float
    ) -> None:
        """A line coloured by speed among the solids.  Neighbours of one colour and layer are one polyline."""
        if len(points) < 2:
            return
        flat, depth = self.camera.project(points)
        level = np.round(scale((speed[1:] + speed[:-1]) / 2.0) * _LEVELS).astype(int)
        layer = np.searchsorted(-self._bar_depths(), -(depth[1:] + depth[:-1]) / 2.0, side="right")
        cuts = np.flatnonzero((np.diff(level) != 0) | (np.diff(layer) != 0)) + 1
        begins, ends = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(level)]])
        for rank in np.unique(layer):
            runs = np.flatnonzero(layer[begins] == rank)
            pieces = [flat[begins[run] : ends[run] + 1] for run in runs]
            colours = SPEED(level[begins[runs]] / _LEVELS)
            self.axes.add_collection(coloured_line(pieces, colours, width, _SOLID + rank - 0.5))

    def finish(self) -> None:
        """Puts the solids on the picture, the nearest last."""
        if not self.bars:
            return
        flat, depth = self.camera.project(np.stack(self.bars))
        for rank, index in enumerate(np.argsort(-depth.mean(axis=1), kind="stable")):
            colour, zorder = self.bar_colours[index], _SOLID + rank
            solid = PolyCollection(
                [flat[index]], facecolors=colour, edgecolors=colour, linewidths=1.6, zorder=zorder
            )
            self.axes.add_collection(solid)

    def text(self, point: Float[np.ndarray, " 3"], words: str, colour: str, size: float = 8.0) -> None:
        """Words at a place, readable over everything."""
        flat, _ = self.camera.project(point)
        self.words.append(flat)
        self.axes.text(
            flat[0], flat[1], words, color=colour, fontsize=size, fontweight="bold", ha="center", va="center",
            zorder=_LABEL, path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip

    def mark(self, points: Float[np.ndarray, "K 3"], marker: str, colour: str, size: float) -> None:
        """Symbols above everything but words."""
        flat, _ = self.camera.project(points)
        is_stroke = marker in "x+"
        self.axes.scatter(
            flat[:, 0], flat[:, 1], s=size, marker=marker, c=colour, zorder=_LABEL - 1,
            linewidths=2.2 if is_stroke else 0.8, edgecolors=None if is_stroke else "white",
        )  # fmt: skip

    def _bar_depths(self) -> Float[np.ndarray, " B"]:
        """Depths of the solids, the furthest first."""
        if not self.bars:
            return np.zeros(0)
        return -np.sort(-self.camera.project(np.stack(self.bars))[1].mean(axis=1))


def extent_of(
    track: TrackGeometry | None, paths: Sequence[Float[np.ndarray, "_ 3"]], margin: float = MARGIN
) -> Extent:
    """Room for the gates and all paths, with a margin (m); the ground is the lower side."""
    points = [np.asarray(path, np.float64) for path in paths]
    if track is not None:
        points += [_outline(track, track.half_opening + track.rim).reshape(-1, 3), track.start_pos[None]]
    together = np.concatenate(points)
    ground = min(0.0, float(together[:, 2].min()))
    lo = np.array([together[:, 0].min() - margin, together[:, 1].min() - margin, ground])
    hi = np.array([together[:, 0].max() + margin, together[:, 1].max() + margin, together[:, 2].max() + 0.3])
    return Extent(lo=lo, hi=hi)


def grid_step(extent: Extent) -> float:
    """Distance in m between two lines of the grid."""
    side = float(min(extent.hi[:2] - extent.lo[:2]))
    return next((step for step in _GRIDS if side >= 2.0 * step), _GRIDS[-1])


def draw_ground(scene: Scene, extent: Extent) -> None:
    """The floor with its grid."""
    (x0, y0, z), (x1, y1, _) = extent.lo, extent.hi
    floor = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
    flat, _ = scene.camera.project(floor)
    scene.axes.add_collection(PolyCollection([flat], facecolors=GROUND, edgecolors="none", zorder=0))
    step = grid_step(extent)
    xs = np.arange(np.ceil(x0 / step), np.floor(x1 / step) + 1) * step
    ys = np.arange(np.ceil(y0 / step), np.floor(y1 / step) + 1) * step
    lines = [[[x, y0, z], [x, y1, z]] for x in xs] + [[[x0, y, z], [x1, y, z]] for y in ys]
    flat, _ = scene.camera.project(np.array(lines))
    scene.axes.add_collection(LineCollection(list(flat), colors=GRID, linewidths=0.6, zorder=1))


def draw_gates(
    scene: Scene, track: TrackGeometry, colours: Sequence[str], numbers: Sequence[int] | None = None
) -> None:
    """Frames standing on posts, numbered in the order of passing, with an arrow in the passing direction.

    ``numbers`` are those of the gates of a part of a track; without them the gates count from 1.
    """
    outer, inner = _outline(track, track.half_opening + track.rim), _outline(track, track.half_opening)
    frames = frame_colours(track, colours)
    for gate in range(len(track.gate_pos)):
        if gate in np.flatnonzero(track.physical == track.physical[gate])[1:]:
            continue  # the frame stands already
        corners = zip(
            outer[gate], np.roll(outer[gate], -1, 0), inner[gate], np.roll(inner[gate], -1, 0), strict=True
        )
        scene.bars.extend(np.stack([a, b, d, c]) for a, b, c, d in corners)
        scene.bar_frames.extend([int(track.physical[gate])] * 4)
        scene.bar_colours.extend([frames[gate]] * 4)
        for foot in outer[gate][2:]:  # its lower corners
            scene.line(np.stack([foot, foot * [1.0, 1.0, 0.0]]), FAINT, 1.0, zorder=3.0)
    _draw_directions(scene, track, colours)
    _draw_numbers(scene, track, frames, numbers or range(1, len(track.gate_pos) + 1))


def frame_colours(track: TrackGeometry, colours: Sequence[str]) -> list[str]:
    """The colour of each gate's frame; one that is passed twice a lap has the worst of its passages."""
    passages = [np.flatnonzero(track.physical == frame) for frame in track.physical]
    return [min((colours[int(gate)] for gate in gates), key=_WORST.index) for gates in passages]


def fit_limits(
    scene: Scene, extent: Extent, track: TrackGeometry | None, paths: Sequence[Float[np.ndarray, "_ 3"]]
) -> None:
    """Limits of the picture around ground, gates and paths."""
    (x0, y0, z), (x1, y1, _) = extent.lo, extent.hi
    points = [np.array([[x, y, z] for x in (x0, x1) for y in (y0, y1)]), *paths]
    if track is not None:
        points.append(_above_or_below(track))
    flat, _ = scene.camera.project(np.concatenate(points))
    (left, bottom), (right, top) = flat.min(axis=0) - 0.15, flat.max(axis=0) + 0.15
    bare(scene.axes)
    scene.axes.set_xlim(left, right)
    scene.axes.set_ylim(bottom, top)


def draw_start(scene: Scene, track: TrackGeometry, size: float = 1.0) -> None:
    """The start pose: a triangle of about so many metres pointing the way the drone looks."""
    ahead = np.array([np.cos(track.start_yaw), np.sin(track.start_yaw), 0.0])
    side = np.array([-ahead[1], ahead[0], 0.0])
    tip, wing = track.start_pos + 0.55 * size * ahead, track.start_pos - 0.35 * size * ahead
    flat, _ = scene.camera.project(np.stack([tip, wing + 0.4 * size * side, wing - 0.4 * size * side]))
    scene.axes.add_collection(
        PolyCollection([flat], facecolors=INK, edgecolors="white", linewidths=0.8, zorder=_LABEL - 1)
    )
    scene.text(track.start_pos - 1.5 * size * ahead, "start", INK, 7.5)


def plain_colours(track: TrackGeometry) -> list[str]:
    """Gates of which nothing is said."""
    return [UNREACHED] * len(track.gate_pos)


def _draw_directions(scene: Scene, track: TrackGeometry, colours: Sequence[str]) -> None:
    normal, _ = _axes_of(track)
    tail, _ = scene.camera.project(track.gate_pos - 0.25 * normal)
    head, _ = scene.camera.project(track.gate_pos + 1.15 * normal)
    for gate, colour in enumerate(colours):
        if np.linalg.norm(head[gate] - tail[gate]) < 0.3:
            continue  # it points at the viewer
        scene.axes.annotate(
            "", head[gate], tail[gate], zorder=_LABEL - 2,
            arrowprops={"arrowstyle": "-|>", "color": to_rgba(colour, 0.9), "lw": 1.3, "mutation_scale": 9,
                        "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _draw_numbers(scene: Scene, track: TrackGeometry, colours: Sequence[str], numbers: Sequence[int]) -> None:
    """Numbers over the frames (beside them in the plan); frames that cover each other share one label."""
    _, left = _axes_of(track)
    beside = _above_or_below(track)
    is_plan = abs(scene.camera.forward[2]) > 0.99
    if is_plan:  # stacked gates with opposite directions have their labels on the same side
        sign = np.where(left @ np.array([0.3, 1.0, 0.0]) < 0.0, -1.0, 1.0)[:, None]
        beside = track.gate_pos + sign * _reach(track) * left
    flat, _ = scene.camera.project(beside)
    for group in _clusters(flat, 0.8):
        words = "·".join(dict.fromkeys(str(numbers[gate]) for gate in group))
        shades = {colours[gate] for gate in group}
        scene.text(beside[group].mean(0), words, shades.pop() if len(shades) == 1 else MUTED, 9.5)


def _reach(track: TrackGeometry) -> float:
    """From the centre of a gate to its number, m."""
    return track.half_opening + track.rim + 0.45


def _above_or_below(track: TrackGeometry) -> Float[np.ndarray, "G 3"]:
    """Places of the numbers: above the frames, or below where another frame stands on this one."""
    up = np.array([0.0, 0.0, _reach(track)])
    above = track.gate_pos + up
    apart = np.linalg.norm(above[:, None] - track.gate_pos[None], axis=-1)
    is_under = (apart < 0.99 * _reach(track)).any(axis=1)
    return np.where(is_under[:, None], track.gate_pos - up, above)


def _clusters(flat: Float[np.ndarray, "G 2"], radius: float) -> list[list[int]]:
    """Indices of points that lie together in the picture."""
    groups: list[list[int]] = []
    for index, point in enumerate(flat):
        near = next((g for g in groups if np.linalg.norm(flat[g].mean(0) - point) < radius), None)
        if near is None:
            groups.append([index])
        else:
            near.append(index)
    return groups


def _axes_of(track: TrackGeometry) -> tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3"]]:
    """Passing directions and the directions to their left."""
    cos, sin, zero = np.cos(track.gate_yaw), np.sin(track.gate_yaw), np.zeros(len(track.gate_yaw))
    return np.stack([cos, sin, zero], -1), np.stack([-sin, cos, zero], -1)


def _outline(track: TrackGeometry, half: float) -> Float[np.ndarray, "G 4 3"]:
    """Corners of squares about the centres: upper left, upper right, lower right, lower left."""
    _, left = _axes_of(track)
    side = np.array([1.0, -1.0, -1.0, 1.0])[None, :, None] * left[:, None]
    up = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, -1.0]])
    return track.gate_pos[:, None] + half * (side + up[None])
