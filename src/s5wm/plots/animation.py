"""A lap as a moving picture: a GIF, and an MP4 where imageio-ffmpeg is installed."""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.colors import to_rgba
from PIL import Image

from s5wm.plots.drone import Pose
from s5wm.plots.motion import best_lap, motion_at
from s5wm.plots.stage import PAPER, Frame, Moment, Stage
from s5wm.plots.style import GRID, GROUND, INK, PASSED, SPEED, TRACE, UNREACHED, speed_scale
from s5wm.runs.flights import Flight, TrackGeometry

FRAMES_PER_SECOND = 25

LONGEST = 8.0
"""s; of a flight without a complete lap its last part is shown."""

TRAIL = 1.4
"""s of flight that fade behind the drone."""


def animate_lap(flight: Flight, track: TrackGeometry | None, title: str, stem: Path) -> list[Path]:
    """Writes ``stem.gif`` (and ``stem.mp4``) of the fastest lap, or of the end of a flight that has none."""
    frames = list(render_lap(flight, track, title))
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [_write_gif(frames, stem.with_suffix(".gif"))]
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        written.append(_write_mp4(frames, stem.with_suffix(".mp4")))
    return written


def render_lap(flight: Flight, track: TrackGeometry | None, title: str) -> Iterator[Frame]:
    """The pictures in order, 25 per second of flight."""
    finish = float(flight.time[-1])
    begin, end = best_lap(flight) or (max(float(flight.time[0]), finish - LONGEST), finish)
    path = np.asarray(flight.pos_w, np.float64)
    stage, speeds = Stage(track, [path], title, trace=path), speed_scale(flight.speed)
    for time in np.linspace(begin, end, 1 + round((end - begin) * FRAMES_PER_SECOND)):
        moment = _moment_at(flight, float(time))
        crash = "   crash" if flight.crashed and time > finish - 0.5 / FRAMES_PER_SECOND else ""
        yield stage.draw(moment, speeds, f"{time - begin:5.2f} s  {moment.tail.speed[-1]:5.1f} m/s{crash}")


def _moment_at(flight: Flight, time: float) -> Moment:
    since = max(time - TRAIL, float(flight.time[0]))
    tail = motion_at(flight, np.linspace(since, time, max(2, round((time - since) / 0.02))))
    row = min(int(np.searchsorted(flight.time, time, side="right")), len(flight.time)) - 1
    pose = Pose(pos_w=tail.pos_w[-1], quat=tail.quat[-1])
    return Moment(pose=pose, target=int(flight.target[max(row, 0)]), tail=tail)


def _write_gif(frames: Sequence[Frame], file: Path) -> Path:
    """One palette for all frames, so that constant pixels compress well."""
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
    mixed = (glow + ages * (PAPER - glow), solids + light * (1.0 - solids))
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
