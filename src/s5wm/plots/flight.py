"""The flight picture: the track in perspective, from above and from the side, the line coloured by speed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from s5wm.plots.camera import Camera, clearest_azimuth, from_above, from_the_side, in_perspective
from s5wm.plots.drone import Pose, draw_drone, drone_scale
from s5wm.plots.motion import Motion, best_lap, motion_at, smooth
from s5wm.plots.scene import (
    Extent,
    Scene,
    draw_gates,
    draw_ground,
    draw_start,
    extent_of,
    fit_limits,
    grid_step,
)
from s5wm.plots.style import (
    MISSED,
    MUTED,
    PASSED,
    SPEED,
    TRACE,
    UNREACHED,
    heading,
    new_figure,
    speed_scale,
)
from s5wm.runs.flights import Flight, TrackGeometry

GHOST_INTERVAL = 0.4
"""s between two drones drawn on the line; less on a short flight, which has ``GHOSTS`` of them."""

GHOSTS = 4

CLEAR = 0.4
"""m from the centre of a drone of real size to that of words that it leaves readable."""

START = 12.0
"""The sign of the start takes at most so little of the size of a view."""

ZOOM = 0.2
"""Flights that span less than this share of the track fill the large view; the whole track is on the right."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Text of a flight picture."""

    title: str
    facts: str = ""  # which policy flew, and how its whole evaluation went


@dataclass(frozen=True, kw_only=True, eq=False)
class _Picture:
    """What a view shows."""

    track: TrackGeometry | None
    colours: Sequence[str]  # of its gates
    numbers: Sequence[int]  # of its gates, from 1 in the order of passing
    flight: Flight
    motion: Motion
    others: Sequence[Motion]
    extent: Extent
    scale: Normalize


def draw_flight(flights: Sequence[Flight], track: TrackGeometry | None, caption: Caption) -> Figure:
    """The first flight in colour, the others as thin lines behind it."""
    motions = [smooth(flight) for flight in flights]
    picture = _Picture(
        track=track,
        colours=[] if track is None else gate_colours(flights[0], len(track.gate_pos)),
        numbers=[] if track is None else range(1, len(track.gate_pos) + 1),
        flight=flights[0],
        motion=motions[0],
        others=motions[1:],
        extent=extent_of(track, [motion.pos_w for motion in motions]),
        scale=speed_scale(motions[0].speed),
    )
    figure = new_figure(13.0, 7.0)
    main = figure.add_axes((0.01, 0.07, 0.61, 0.80))
    plan = figure.add_axes((0.645, 0.34, 0.345, 0.53))
    side = figure.add_axes((0.645, 0.07, 0.345, 0.22))
    azimuth = -65.0 if track is None else clearest_azimuth(track.gate_yaw)
    large = _zoomed(picture)
    _draw_view(main, in_perspective(large.extent.lo, large.extent.hi, azimuth=azimuth), large, ghosts=True)
    if large is not picture:
        main.set_title(
            f"where it flew, on a grid of {grid_step(large.extent):g} m; the whole track is on the right",
            fontsize=9,
            color=MUTED,
            fontweight="normal",
        )
    _draw_view(plan, from_above(), picture, ghosts=False)
    _draw_view(side, from_the_side(), picture, ghosts=False)
    plan.set_title("from above", fontsize=9, color=MUTED, fontweight="normal", pad=2)
    # Above the labels of the highest gates.
    side.set_title("from the side (x, height)", fontsize=9, color=MUTED, fontweight="normal", pad=10)
    _draw_colour_bar(figure, picture.scale)
    _draw_legend(figure, picture)
    heading(
        figure,
        caption.title,
        describe(flights[0], caption.facts, count=len(flights), has_gates=track is not None),
    )
    return figure


def _zoomed(picture: _Picture) -> _Picture:
    """The part of the track where a short flight went, with the gates that reach into it."""
    track = picture.track
    if track is None:
        return picture
    paths = [motion.pos_w for motion in (picture.motion, *picture.others)]
    together = np.concatenate(paths)
    flown = float(np.linalg.norm(together.max(axis=0) - together.min(axis=0)))
    if flown >= ZOOM * np.linalg.norm(picture.extent.hi - picture.extent.lo):
        return picture
    near = extent_of(None, paths, margin=max(0.5 * flown, 0.5))
    reach = track.half_opening + track.rim
    inside = np.all((track.gate_pos + reach > near.lo) & (track.gate_pos - reach < near.hi), axis=-1)
    kept = np.flatnonzero(inside)
    return replace(
        picture,
        track=replace(
            track,
            gate_pos=track.gate_pos[kept],
            gate_yaw=track.gate_yaw[kept],
            physical=track.physical[kept],
        ),
        colours=[picture.colours[int(gate)] for gate in kept],
        numbers=[picture.numbers[int(gate)] for gate in kept],
        extent=near,
    )


def gate_colours(flight: Flight, count: int) -> list[str]:
    """Passed, missed (the target when the flight crashed) or not reached, by gate."""
    target = np.asarray(flight.target)
    colours = [UNREACHED] * count
    for gate in np.unique(target[flight.passes - 1]):
        colours[int(gate)] = PASSED
    if flight.crashed and 0 <= int(target[-1]) < count:
        colours[int(target[-1])] = MISSED
    return colours


def describe(flight: Flight, facts: str = "", *, count: int = 1, has_gates: bool = True) -> str:
    """Laps, gates, top speed and ending; ``facts`` on a second line."""
    laps = [f"{t:.2f}" for t in flight.lap_times if np.isfinite(t)]
    parts: list[str] = []
    if has_gates:
        parts = [f"laps {', '.join(laps)} s" if laps else "no complete lap", f"{flight.gates} gates passed"]
    parts.append(f"top speed {flight.speed.max():.1f} m/s")
    ending = flight.ending.lower().replace("_", " ")
    parts.append(f"crash: {ending}" if flight.crashed else f"{flight.time[-1]:.1f} s flown without a crash")
    if count > 1:
        parts.append(f"first of {count} flights in colour")
    line = "   ·   ".join(parts)
    return f"{line}\n{facts}" if facts else line


def _draw_view(axes: Axes, camera: Camera, picture: _Picture, *, ghosts: bool) -> None:
    scene = Scene(axes=axes, camera=camera)
    motion, extent = picture.motion, picture.extent
    draw_ground(scene, extent)
    if picture.track is not None:
        draw_gates(scene, picture.track, picture.colours, picture.numbers)
        size, start = float(np.linalg.norm(extent.hi - extent.lo)) / START, picture.track.start_pos
        if np.all((start >= extent.lo) & (start <= extent.hi)):
            draw_start(scene, picture.track, min(size, 1.0))
    if ghosts:
        scene.line(motion.pos_w * [1.0, 1.0, 0.0] + [0.0, 0.0, extent.lo[2]], TRACE, 1.4)
    for other in picture.others:
        scene.line(other.pos_w, "#aab4be", 0.8, zorder=4.0)
    scene.path(motion.pos_w, motion.speed, picture.scale, 2.6 if ghosts else 1.8)
    if ghosts:
        _draw_ghosts(scene, picture.flight, extent)
    _draw_marks(scene, picture.flight, 20.0 if ghosts else 11.0)
    scene.finish()
    fit_limits(scene, extent, picture.track, [m.pos_w for m in (motion, *picture.others)])


def _draw_marks(scene: Scene, flight: Flight, size: float) -> None:
    passes = flight.passes
    if len(passes):
        scene.mark(np.asarray(flight.pos_w)[passes], "o", PASSED, size)
    if flight.crashed:
        scene.mark(np.asarray(flight.pos_w)[-1:], "x", MISSED, 3.5 * size)


def _draw_ghosts(scene: Scene, flight: Flight, extent: Extent) -> None:
    """Drones along the fastest lap, or along the whole flight if there is none; none over a number."""
    begin, end = best_lap(flight) or (float(flight.time[0]), float(flight.time[-1]))
    interval = min(GHOST_INTERVAL, max((end - begin) / GHOSTS, 1e-3))
    motion = motion_at(flight, np.arange(begin, end, interval))
    scale = drone_scale(extent)
    flat, _ = scene.camera.project(motion.pos_w)
    for place, pos_w, quat in zip(flat, motion.pos_w, motion.quat, strict=True):
        if all(np.linalg.norm(place - word) > CLEAR * scale for word in scene.words):
            draw_drone(scene.axes, scene.camera, Pose(pos_w=pos_w, quat=quat), scale)


def _draw_colour_bar(figure: Figure, scale: Normalize) -> None:
    axes = figure.add_axes((0.03, 0.055, 0.20, 0.016))
    bar = figure.colorbar(ScalarMappable(scale, SPEED), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.set_label("speed, m/s", labelpad=1)


def _draw_legend(figure: Figure, picture: _Picture) -> None:
    if picture.track is None:
        return
    shades = picture.colours
    entries = (("gate passed", PASSED), ("gate missed", MISSED), ("gate not reached", UNREACHED))
    x = 0.27
    for words, colour in (entry for entry in entries if entry[1] in shades):
        figure.text(x, 0.062, "■", color=colour, fontsize=11, va="center")
        figure.text(x + 0.014, 0.063, words, color=MUTED, fontsize=9, va="center")
        x += 0.1
    if picture.flight.crashed:
        figure.text(x, 0.062, "✕", color=MISSED, fontsize=11, va="center")
        figure.text(x + 0.014, 0.063, "crash", color=MUTED, fontsize=9, va="center")
