"""Ways to look at the world: from above, from the side, in perspective; depth decides what covers what."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vec = Float[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """Axes of the picture in the world.  ``distance`` is where a metre is drawn as a metre."""

    eye: Vec  # m
    right: Vec
    up: Vec
    forward: Vec
    distance: float  # m; infinite for a parallel view

    def project(
        self, points: Float[np.ndarray, "*b 3"]
    ) -> tuple[Float[np.ndarray, "*b 2"], Float[np.ndarray, "*b"]]:
        """Where points (m, world axes) lie in the picture, and how far behind it (larger is further)."""
        offset = np.asarray(points, np.float64) - self.eye
        depth = np.asarray(offset @ self.forward)  # an array even for one point
        flat = np.stack([offset @ self.right, offset @ self.up], axis=-1)
        if np.isinf(self.distance):
            return flat, depth
        return flat * (self.distance / np.maximum(depth, 0.1))[..., None], depth


def from_above() -> Camera:
    """The plan: x to the right, y up."""
    return _parallel(right=(1.0, 0.0, 0.0), up=(0.0, 1.0, 0.0), forward=(0.0, 0.0, -1.0))


def from_the_side() -> Camera:
    """The elevation: x to the right, z up, seen along +y."""
    return _parallel(right=(1.0, 0.0, 0.0), up=(0.0, 0.0, 1.0), forward=(0.0, 1.0, 0.0))


def in_perspective(lo: Vec, hi: Vec, *, azimuth: float = -68.0, elevation: float = 32.0) -> Camera:
    """A camera outside the volume between two corners, looking at its middle.

    ``azimuth`` (deg) is where the camera stands, seen from the middle, ``elevation`` (deg) how high.
    """
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    outward = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    distance = 1.45 * float(np.linalg.norm(np.asarray(hi) - np.asarray(lo)))
    forward = -outward
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    middle = (np.asarray(lo, np.float64) + np.asarray(hi, np.float64)) / 2.0
    return Camera(
        eye=middle + distance * outward,
        right=right,
        up=np.cross(right, forward),
        forward=forward,
        distance=distance,
    )


def clearest_azimuth(gate_yaw: Float[np.ndarray, " G"]) -> float:
    """Where a camera in front of the track (deg) sees no gate edge-on, and the x axis as wide as may be."""
    azimuth = np.arange(-150.0, -29.0, 2.0)
    openness = np.abs(np.cos(np.deg2rad(azimuth)[:, None] - np.asarray(gate_yaw)[None])).min(axis=1)
    width = np.abs(np.sin(np.deg2rad(azimuth)))
    return float(azimuth[np.argmax(np.minimum(openness, 0.35) + 0.2 * width)])


def _parallel(*, right: tuple[float, ...], up: tuple[float, ...], forward: tuple[float, ...]) -> Camera:
    return Camera(
        eye=np.zeros(3), right=np.array(right), up=np.array(up), forward=np.array(forward), distance=np.inf
    )
