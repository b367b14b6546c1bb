"""Film strips: the camera, the estimate, the prediction."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from s5wm.plots.style import INK, MUTED, heading, new_figure
from s5wm.runs.images import rgb
from s5wm.runs.video_predictions import VideoPrediction

STRIPS = 2
"""Moments drawn; of more, some spread evenly."""

FRAMES = 8
_CELL = 1.3  # inches


def draw_video_predictions(predictions: Sequence[VideoPrediction], title: str) -> Figure:
    """For each moment three strips: what the camera saw, what the model estimated, what it predicted."""
    chosen = np.unique(np.linspace(0, len(predictions) - 1, STRIPS).round().astype(int))
    ghost = predictions[0].is_ghost
    strips = ("camera", "estimate", "prediction")
    height = 1.0 + len(chosen) * (3 * _CELL + 0.35)
    width = FRAMES * _CELL + 1.0
    figure = new_figure(width, height)
    how = (
        "estimate and prediction: the camera's view from where the model estimates the drone to be"
        if ghost
        else "estimate and prediction are decoded images"
    )
    heading(figure, title, f"{how}; the prediction has seen only its first image", top=1.0 - 0.28 / height)
    top = height - 0.95
    for number in chosen:
        one = predictions[number]
        places = np.linspace(0, one.steps, FRAMES).round().astype(int)
        for line, (name, images) in enumerate(
            zip(strips, (one.real, one.estimated, one.predicted), strict=True)
        ):
            bottom = top - (line + 1) * _CELL
            figure.text(
                0.88 / width, (bottom + _CELL / 2) / height, name,
                ha="right", va="center", color=INK, fontweight="bold",
            )  # fmt: skip
            for column, place in enumerate(places):
                size = (0.96 * _CELL / width, 0.96 * _CELL / height)
                axes = figure.add_axes(((0.97 + column * _CELL) / width, bottom / height, *size))
                axes.imshow(rgb(images[place]), interpolation="nearest")
                axes.set_axis_off()
                if line == 0:
                    axes.set_title(
                        f"{place * one.dt:.2f} s", fontsize=7.5, fontweight="normal", color=MUTED, pad=2.0
                    )
        top -= 3 * _CELL + 0.35
    return figure
