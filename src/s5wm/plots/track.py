"""Picture of a track alone, in perspective and from above."""

from pathlib import Path

import numpy as np

from s5wm.plots.camera import clearest_azimuth, from_above, in_perspective
from s5wm.plots.scene import (
    Scene,
    draw_gates,
    draw_ground,
    draw_start,
    extent_of,
    fit_limits,
    plain_colours,
)
from s5wm.plots.style import heading, house_style, new_figure, save_figure
from s5wm.runs.flights import TrackGeometry


def plot_track(track: TrackGeometry, title: str, stem: Path) -> list[Path]:
    """Draws the gates in their order, the start and the ground into ``stem.png`` and ``stem.svg``."""
    gates = np.asarray(track.gate_pos)
    length = float(np.linalg.norm(np.diff(gates, axis=0, append=gates[:1]), axis=-1).sum())
    facts = f"{len(gates)} gates of {2 * track.half_opening:g} m, {length:.1f} m from gate to gate"
    with house_style():
        figure = new_figure(10.0, 5.4)
        extent = extent_of(track, [])
        perspective = in_perspective(extent.lo, extent.hi, azimuth=clearest_azimuth(track.gate_yaw))
        places = ((0.01, 0.02, 0.56, 0.86), (0.6, 0.04, 0.38, 0.82))
        for place, camera in zip(places, (perspective, from_above()), strict=True):
            scene = Scene(axes=figure.add_axes(place), camera=camera)
            draw_ground(scene, extent)
            draw_gates(scene, track, plain_colours(track))
            draw_start(scene, track)
            scene.finish()
            fit_limits(scene, extent, track, [])
        heading(figure, title, facts, top=0.945)
        return save_figure(figure, stem)
