"""A lap as a moving picture: a GIF, and an MP4 where imageio-ffmpeg is installed."""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from s5wm.flights import Course, Flight
from s5wm.plots.camera import clearest_azimuth, from_above, in_perspective
from s5wm.plots.drone import Pose, drone_artists, drone_scale, place_drone
from s5wm.plots.motion import Motion, best_lap, motion_at
from s5wm.plots.scene import Scene, draw_gates, draw_ground, extent_of, fit_limits, plain_colours
from s5wm.plots.style import GRID, GROUND, INK, PASSED, SPEED, TRACE, UNREACHED, coloured_line, speed_scale

FRAMES_PER_SECOND = 25

LONGEST = 8.0
"""s; of a flight without a complete lap its last part is shown."""

TRAIL = 1.4
"""s of flight that fade behind the drone."""

_WIDTH, _HEIGHT, _DPI = 600, 400, 100  # pixels, even as video wants
_PAPER = 0.85  # grey that the trail fades to

Frame = UInt8[np.ndarray, "R C 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moment:
    """What the picture shows at one time."""

    pose: Pose
    target: int
    tail: Motion  # the flight that still glows, the present last


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """One of the two views: a scene that stands still, and the artists that move in it."""

    scene: Scene
    behind: PolyCollection  # the parts of gates beyond the drone
    front: PolyCollection
    trail: LineCollection
    drone: tuple[PolyCollection, LineCollection]
    scale: float  # of the drone

    def draw(self, moment: _Moment, speeds: Normalize) -> None:
        """Onto the canvas, from far to near."""
        axes, camera = self.scene.axes, self.scene.camera
        self._place_gates(moment)
        flat, _ = camera.project(moment.tail.pos_w)
        self.trail.set_segments(list(np.stack([flat[:-1], flat[1:]], axis=1)))
        self.trail.set_color(_glow(moment.tail, speeds))
        place_drone(self.drone, camera, moment.pose, self.scale)
        for artist in (self.behind, self.trail, *self.drone, self.front, *axes.texts):
            axes.draw_artist(artist)

    def _place_gates(self, moment: _Moment) -> None:
        """Parts of gates on both sides of the drone; the target stands out."""
        camera, bars = self.scene.camera, self.scene.bars
        if not bars:
            return
        flat, depth = camera.project(np.stack(bars))
        away = depth.mean(axis=1)
        order = np.argsort(-away)
        is_front = away[order] < camera.project(moment.pose.pos_w)[1]
        owners = np.asarray(self.scene.bar_gates)
        colours = np.where((owners == moment.target)[:, None], to_rgba(PASSED), to_rgba(UNREACHED))
        for artist, chosen in ((self.behind, order[~is_front]), (self.front, order[is_front])):
            artist.set_verts(list(flat[chosen]))
            artist.set_color(colours[chosen].tolist())


def animate_lap(flight: Flight, course: Course | None, title: str, stem: Path) -> list[Path]:
    """Writes ``stem.gif`` (and ``stem.mp4``) of the fastest lap, or of the end of a flight that has none."""
    frames = list(render_lap(flight, course, title))
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [_write_gif(frames, stem.with_suffix(".gif"))]
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        written.append(_write_mp4(frames, stem.with_suffix(".mp4")))
    return written


def render_lap(flight: Flight, course: Course | None, title: str) -> Iterator[Frame]:
    """The pictures in order, 25 per second of flight.  What stands still is drawn once."""
    finish = float(flight.time[-1])
    begin, end = best_lap(flight) or (max(float(flight.time[0]), finish - LONGEST), finish)
    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    views = _build_views(figure, flight, course)
    figure.text(0.025, 0.945, title, fontsize=10.5, fontweight="bold", color=INK, va="center")
    clock = figure.text(0.025, 0.06, "", fontsize=11, color=INK, va="center", family="monospace")
    clock.set_animated(True)
    canvas.draw()
    still, speeds = canvas.copy_from_bbox(figure.bbox), speed_scale(flight.speed)
    for time in np.linspace(begin, end, 1 + round((end - begin) * FRAMES_PER_SECOND)):
        canvas.restore_region(still)
        moment = _moment_at(flight, float(time))
        for view in views:
            view.draw(moment, speeds)
        crash = "   crash" if flight.crashed and time > finish - 0.5 / FRAMES_PER_SECOND else ""
        _draw_clock(figure, clock, f"{time - begin:5.2f} s  {moment.tail.speed[-1]:5.1f} m/s{crash}")
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _build_views(figure: Figure, flight: Flight, course: Course | None) -> list[_View]:
    """The fixed perspective, and a small plan in the upper right corner."""
    path = np.asarray(flight.pos_w, np.float64)
    extent = extent_of(course, [path])
    azimuth = -65.0 if course is None else clearest_azimuth(course.gate_yaw)
    cameras = (in_perspective(extent.lo, extent.hi, azimuth=azimuth), from_above())
    places = ((0.0, 0.07, 0.9, 0.86), (0.735, 0.66, 0.255, 0.325))
    views: list[_View] = []
    for place, camera, size in zip(places, cameras, (1.0, 0.55), strict=True):
        scene = Scene(axes=figure.add_axes(place), camera=camera)
        draw_ground(scene, extent)
        if course is not None:
            draw_gates(scene, course, plain_colours(course))
        scene.line(path, TRACE, 0.9)
        fit_limits(scene, extent, course, [path])
        views.append(_moving_parts(scene, drone_scale(extent), size))
    return views


def _moving_parts(scene: Scene, scale: float, size: float) -> _View:
    """Artists that no ordinary drawing shows, since they are animated."""
    for words in scene.axes.texts:
        words.set_animated(True)
        words.set_fontsize(8.0 if size == 1.0 else 5.5)
    view = _View(
        scene=scene,
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


def _moment_at(flight: Flight, time: float) -> _Moment:
    since = max(time - TRAIL, float(flight.time[0]))
    tail = motion_at(flight, np.linspace(since, time, max(2, round((time - since) / 0.02))))
    row = min(int(np.searchsorted(flight.time, time, side="right")), len(flight.time)) - 1
    pose = Pose(pos_w=tail.pos_w[-1], quat=tail.quat[-1])
    return _Moment(pose=pose, target=int(flight.target[max(row, 0)]), tail=tail)


def _glow(tail: Motion, speeds: Normalize) -> Any:
    """Colours by speed that mix with the paper as they age, and so need no transparency."""
    colours = np.asarray(SPEED(speeds(tail.speed[1:])))
    age = np.linspace(1.0, 0.0, len(colours))[:, None] ** 1.5
    colours[:, :3] += (_PAPER - colours[:, :3]) * age
    return colours.tolist()


def _draw_clock(figure: Figure, clock: Text, words: str) -> None:
    clock.set_text(words)
    figure.draw_artist(clock)


def _write_gif(frames: Sequence[Frame], file: Path) -> Path:
    """One palette for all frames, so that pixels that stand still stay the same and cost nothing."""
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette().tobytes())
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    durations = [1000 // FRAMES_PER_SECOND] * len(frames)
    durations[-1] += 400  # a breath before it begins again
    pictures[0].save(
        file, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )
    return file


def _palette() -> UInt8[np.ndarray, "K 3"]:
    """The colours that these pictures are made of, and their mixtures with the paper at edges and in the trail."""
    glow = np.asarray(SPEED(np.linspace(0.0, 1.0, 28)))[:, None, :3]
    ages = np.linspace(0.0, 1.0, 7)[:, None]
    solids = np.array([to_rgba(colour)[:3] for colour in (INK, UNREACHED, PASSED)])[:, None]
    light = np.linspace(0.0, 1.0, 12)[:, None]
    ground = [to_rgba(colour)[:3] for colour in ("white", GROUND, GRID, TRACE)]
    mixed = (glow + ages * (_PAPER - glow), solids + light * (1.0 - solids))
    colours = np.concatenate([ground, *(colour.reshape(-1, 3) for colour in mixed)])
    return np.round(255.0 * colours).astype(np.uint8)


def _write_mp4(frames: Sequence[Frame], file: Path) -> Path:
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")
    height, width, _ = frames[0].shape
    writer = ffmpeg.write_frames(str(file), (width, height), fps=FRAMES_PER_SECOND, macro_block_size=2)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return file
