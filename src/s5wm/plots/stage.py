"""A scene that stands still and a drone that moves in it, drawn picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure

from s5wm.plots.camera import clearest_azimuth, from_above, in_perspective
from s5wm.plots.drone import Pose, drone_artists, drone_scale, place_drone
from s5wm.plots.motion import Motion
from s5wm.plots.scene import Scene, draw_gates, draw_ground, extent_of, fit_limits, plain_colours
from s5wm.plots.style import INK, PASSED, SPEED, TRACE, UNREACHED, coloured_line
from s5wm.runs.flights import TrackGeometry

PAPER = 0.85
"""Grey that the trail fades to."""

_WIDTH, _HEIGHT, _DPI = 600, 400, 100  # pixels, even as video wants

Frame = UInt8[np.ndarray, "R C 3"]
Path3 = Float[np.ndarray, "_ 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What the picture shows at one time."""

    pose: Pose
    target: int
    tail: Motion  # the flight that still glows, the present last


class Stage:
    """A fixed perspective with a small plan in its upper right corner.  What stands still is drawn once."""

    def __init__(
        self, track: TrackGeometry | None, paths: Sequence[Path3], title: str, *, trace: Path3 | None
    ) -> None:
        """With room for the track and ``paths`` (m), and ``trace`` as a faint line."""
        figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI)
        self._figure, self._canvas = figure, FigureCanvasAgg(figure)
        self._views = _build_views(figure, track, paths, trace)
        figure.text(0.025, 0.945, title, fontsize=10.5, fontweight="bold", color=INK, va="center")
        self._words = figure.text(0.025, 0.06, "", fontsize=11, color=INK, va="center", family="monospace")
        self._words.set_animated(True)
        self._canvas.draw()
        self._still = self._canvas.copy_from_bbox(figure.bbox)

    def draw(self, moment: Moment, speeds: Normalize, words: str) -> Frame:
        """The picture of one moment."""
        self._canvas.restore_region(self._still)
        for view in self._views:
            view.draw(moment, speeds)
        self._words.set_text(words)
        self._figure.draw_artist(self._words)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """One of the two views: a scene that stands still, and the artists that move in it."""

    scene: Scene
    track: TrackGeometry | None
    behind: PolyCollection  # the parts of gates beyond the drone
    front: PolyCollection
    trail: LineCollection
    drone: tuple[PolyCollection, LineCollection]
    scale: float  # of the drone

    def draw(self, moment: Moment, speeds: Normalize) -> None:
        """Onto the canvas, from far to near."""
        axes, camera = self.scene.axes, self.scene.camera
        self._place_gates(moment)
        flat, _ = camera.project(moment.tail.pos_w)
        self.trail.set_segments(list(np.stack([flat[:-1], flat[1:]], axis=1)))
        self.trail.set_color(_glow(moment.tail, speeds))
        place_drone(self.drone, camera, moment.pose, self.scale)
        for artist in (self.behind, self.trail, *self.drone, self.front, *axes.texts):
            axes.draw_artist(artist)

    def _place_gates(self, moment: Moment) -> None:
        """Parts of gates on both sides of the drone; the target stands out."""
        camera, bars, track = self.scene.camera, self.scene.bars, self.track
        if track is None or not bars:
            return
        flat, depth = camera.project(np.stack(bars))
        away = depth.mean(axis=1)
        order = np.argsort(-away)
        is_front = away[order] < camera.project(moment.pose.pos_w)[1]
        is_target = np.asarray(self.scene.bar_frames) == track.physical[moment.target]
        colours = np.where(is_target[:, None], to_rgba(PASSED), to_rgba(UNREACHED))
        for artist, chosen in ((self.behind, order[~is_front]), (self.front, order[is_front])):
            artist.set_verts(list(flat[chosen]))
            artist.set_color(colours[chosen].tolist())


def _build_views(
    figure: Figure, track: TrackGeometry | None, paths: Sequence[Path3], trace: Path3 | None
) -> list[_View]:
    extent = extent_of(track, paths)
    azimuth = -65.0 if track is None else clearest_azimuth(track.gate_yaw)
    cameras = (in_perspective(extent.lo, extent.hi, azimuth=azimuth), from_above())
    places = ((0.0, 0.07, 0.9, 0.86), (0.735, 0.66, 0.255, 0.325))
    views: list[_View] = []
    for place, camera, size in zip(places, cameras, (1.0, 0.55), strict=True):
        scene = Scene(axes=figure.add_axes(place), camera=camera)
        draw_ground(scene, extent)
        if track is not None:
            draw_gates(scene, track, plain_colours(track))
        if trace is not None:
            scene.line(trace, TRACE, 0.9)
        fit_limits(scene, extent, track, paths)
        views.append(_moving_parts(scene, track, drone_scale(extent), size))
    return views


def _moving_parts(scene: Scene, track: TrackGeometry | None, scale: float, size: float) -> _View:
    """Artists that no ordinary drawing shows, since they are animated."""
    for words in scene.axes.texts:
        words.set_animated(True)
        words.set_fontsize(8.0 if size == 1.0 else 5.5)
    view = _View(
        scene=scene,
        track=track,
        behind=PolyCollection([], linewidths=1.2 * size),
        front=PolyCollection([], linewidths=1.2 * size),
        trail=coloured_line([], INK, 3.2 * size, 1.0),
        drone=drone_artists(1.4 * size),
        scale=scale / size,
    )
    for artist in (view.behind, view.front, view.trail, *view.drone):
        artist.set_animated(True)
        scene.axes.add_collection(artist, autolim=False)
    return view


def _glow(tail: Motion, speeds: Normalize) -> Any:
    """Colours by speed that mix with the paper as they age, and so need no transparency."""
    colours = np.asarray(SPEED(speeds(tail.speed[1:])))
    age = np.linspace(1.0, 0.0, len(colours))[:, None] ** 1.5
    colours[:, :3] += (PAPER - colours[:, :3]) * age
    return colours.tolist()
