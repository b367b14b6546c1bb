"""Pictures of episodes as a GIF, or as an MP4 where imageio-ffmpeg is installed."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from s5wm.errors import ConfigError, WriteError

Picture = UInt8[np.ndarray, "H W 3"]
Pictures = Sequence[Picture]

FORMS = (".gif", ".mp4")

FASTEST = 50.0
"""Frames per second of a GIF; viewers show a shorter pause than 20 ms as a longer one."""

LARGEST_FONT = 14
SLENDER = 0.55
"""Mean width of a letter, of the size of its font."""

LEAST_SIDE = 128
"""Pixels: smaller pictures are enlarged, whole pixels at a time."""


def check_video(file: Path) -> None:
    """Raises ``ConfigError`` for a file that no video can be written to; before anything is run."""
    if file.suffix not in FORMS:
        raise ConfigError(f"--video {file} ends with {file.suffix or 'nothing'}; name a file .gif or .mp4")
    if file.suffix == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise ConfigError(f"--video {file} needs a package: pip install imageio-ffmpeg, or name a file .gif")
    if not file.parent.is_dir():
        raise ConfigError(f"--video {file}: there is no folder {file.parent}")


def write_video(shots: Sequence[tuple[Picture, str]], seconds: float, file: Path) -> None:
    """Captioned pictures that are so many seconds apart.

    Of a GIF, where they follow faster than ``FASTEST``, every other one.
    """
    check_video(file)
    shown, fps = list(shots), 1.0 / seconds
    if file.suffix == ".gif" and fps > FASTEST:
        stride = int(np.ceil(fps / FASTEST))
        shown, fps = _thinned(shown, stride), fps / stride
    longest = max(len(caption) for _, caption in shown)
    pictures = [_captioned(_enlarged(picture), caption, longest) for picture, caption in shown]
    try:
        (_write_gif if file.suffix == ".gif" else _write_mp4)(pictures, fps, file)
    except OSError as error:
        raise WriteError(f"cannot write {file}: {error}; name another file") from error


def _thinned(shots: Sequence[tuple[Picture, str]], stride: int) -> list[tuple[Picture, str]]:
    """Every ``stride``-th, and the last of each episode, which says how it ended."""
    episodes = [caption.split(",")[0] for _, caption in shots]
    last = {index for index, name in enumerate(episodes) if name not in episodes[index + 1 : index + 2]}
    return [shot for index, shot in enumerate(shots) if index % stride == 0 or index in last]


def _enlarged(picture: Picture) -> UInt8[np.ndarray, "H2 W2 3"]:
    factor = -(-LEAST_SIDE // min(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else picture


def _captioned(picture: Picture, caption: str, longest: int) -> UInt8[np.ndarray, "H2 W 3"]:
    """The picture under a white line of text, in letters that leave room for so many of them."""
    high, wide = picture.shape[:2]
    size = max(1.0, min(LARGEST_FONT, wide / (SLENDER * (longest + 2))))
    room = round(1.6 * size)
    canvas = Image.new("RGB", (wide, high + room), "white")
    canvas.paste(Image.fromarray(picture), (0, room))
    ImageDraw.Draw(canvas).text(
        (size / 2, room / 2), caption, fill="black", font=ImageFont.load_default(size), anchor="lm"
    )
    return np.asarray(canvas)


def _write_gif(pictures: Pictures, fps: float, file: Path) -> None:
    # One palette, of pictures spread over all of them, so that what stands still stays the same.
    sample = np.concatenate(pictures[:: max(1, len(pictures) // 8)], axis=0)
    palette = Image.fromarray(sample).quantize(256, dither=Image.Dither.NONE)
    frames = [Image.fromarray(x).quantize(palette=palette, dither=Image.Dither.NONE) for x in pictures]
    pause = round(1000.0 / fps)
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=pause, loop=0, optimize=True)


def _write_mp4(pictures: Pictures, fps: float, file: Path) -> None:
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")
    high, wide = (side - side % 2 for side in pictures[0].shape[:2])  # the format takes even sides only
    writer = ffmpeg.write_frames(str(file), (wide, high), fps=fps, macro_block_size=2)
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture[:high, :wide]))
    writer.close()
