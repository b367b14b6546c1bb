"""Images of the drone's camera at many moments on one sheet, every pixel a square."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from s5wm.plots.style import INK, heading, new_figure

COLUMNS = 6
_CELL = 1.7  # inches


def draw_onboard(
    rows: Sequence[tuple[str, UInt8[np.ndarray, "K H W 3"], Sequence[str]]], title: str, caption: str
) -> Figure:
    """Groups of images under a heading each; every image has a caption of its own."""
    lines = [-(-len(images) // COLUMNS) for _, images, _ in rows]
    height = 0.75 + sum(0.32 + (_CELL + 0.12) * count for count in lines)
    width = COLUMNS * _CELL + 0.5
    figure = new_figure(width, height)
    heading(figure, title, caption, top=1.0 - 0.25 / height)
    top = height - 0.75
    for (name, images, captions), count in zip(rows, lines, strict=True):
        figure.text(0.25 / width, (top - 0.12) / height, name, fontweight="bold", color=INK, va="center")
        top -= 0.32
        for index, (image, text) in enumerate(zip(images, captions, strict=True)):
            line, column = divmod(index, COLUMNS)
            left, bottom = 0.25 + column * _CELL, top - (line + 1) * (_CELL + 0.12)
            size = (left / width, (bottom + 0.12) / height, 0.96 * _CELL / width, 0.96 * _CELL / height)
            axes = figure.add_axes(size)
            axes.imshow(image, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(text, fontsize=7.0, fontweight="normal", pad=2.0)
        top -= count * (_CELL + 0.12)
    return figure
