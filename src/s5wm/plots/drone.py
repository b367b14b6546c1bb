"""A small quadrotor as lines and discs, turned by its attitude."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

from s5wm.plots.camera import Camera
from s5wm.plots.scene import Extent
from s5wm.plots.style import INK

ARM = 0.125
"""m from the centre to a rotor hub (``agil5``)."""

DISC = 0.075
"""m, radius of a propeller disc."""

_ABOVE = 900.0  # z-order: over every gate, under words


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """Where a drone is and how it is turned."""

    pos_w: Float[np.ndarray, " 3"]  # m
    quat: Float[np.ndarray, " 4"]  # unit, w first, body to world


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """The pieces of a drone in world axes, m: two arms, the nose, four discs."""

    arms: Float[np.ndarray, "3 2 3"]  # diagonal, diagonal, from the centre to the nose
    discs: Float[np.ndarray, "4 V 3"]


def drone_scale(extent: Extent) -> float:
    """Size of a drawn drone over its real size: on a large track it would be a dot."""
    return float(np.clip(np.linalg.norm(extent.hi - extent.lo) / 11.0, 1.0, 3.0))


def body_at(pose: Pose, scale: float) -> Body:
    """A drone ``scale`` times its size."""
    corners = np.deg2rad([45.0, 135.0, 225.0, 315.0])
    hubs = ARM * np.stack([np.cos(corners), np.sin(corners), np.zeros(4)], -1)
    round_ = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    disc = DISC * np.stack([np.cos(round_), np.sin(round_), np.full(16, 0.15)], -1)
    nose = np.array([[0.0, 0.0, 0.0], [1.1 * ARM, 0.0, 0.0]])
    arms = np.stack([hubs[[0, 2]], hubs[[1, 3]], nose])
    turn = rotation(pose.quat)
    return Body(
        arms=pose.pos_w + scale * arms @ turn.T,
        discs=pose.pos_w + scale * (hubs[:, None] + disc[None]) @ turn.T,
    )


def rotation(quat: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Matrix that takes body axes to world axes; its columns are the body's axes in the world."""
    w, x, y, z = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def drone_artists(width: float) -> tuple[PolyCollection, LineCollection]:
    """Empty discs and arms, to be placed with ``place_drone``."""
    discs = PolyCollection(
        [], facecolors=(1, 1, 1, 0.75), edgecolors=INK, linewidths=0.6 * width, zorder=_ABOVE
    )
    arms = LineCollection([], colors=INK, linewidths=width, zorder=_ABOVE + 1, capstyle="round")
    return discs, arms


def place_drone(
    artists: tuple[PolyCollection, LineCollection], camera: Camera, pose: Pose, scale: float
) -> None:
    """Moves a drone to a pose."""
    discs, arms = artists
    body = body_at(pose, scale)
    discs.set_verts(list(camera.project(body.discs)[0]))
    arms.set_segments(list(camera.project(body.arms)[0]))


def draw_drone(axes: Axes, camera: Camera, pose: Pose, scale: float) -> None:
    """A drone that stays where it is."""
    artists = drone_artists(1.3)
    place_drone(artists, camera, pose, scale)
    for artist in artists:
        axes.add_collection(artist)
