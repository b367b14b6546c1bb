"""The scene of a race for the camera: gates as solid frames, floor, walls and sky, and their colours."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from s5wm.envs.racing.track import Track
from s5wm.types import Scalar

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 255]."""

GATE_DEPTH = 0.2
"""How deep a frame is in the direction of passing, m; a gate seen edge-on is a post of this width."""

# Front and back of the gates of a lobe; the first pair is that of gates flown more than once per lap.
_GATES: tuple[tuple[Colour, Colour], ...] = (
    ((255.0, 50.0, 200.0), (120.0, 15.0, 125.0)),
    ((255.0, 125.0, 10.0), (140.0, 25.0, 15.0)),
    ((35.0, 130.0, 255.0), (20.0, 25.0, 140.0)),
)
_GROUND: Colour = (105.0, 115.0, 95.0)
_WALLS: tuple[Colour, ...] = (  # at high x, low x, high y, low y: the tint shows the heading
    (165.0, 150.0, 132.0),
    (132.0, 150.0, 168.0),
    (142.0, 165.0, 136.0),
    (165.0, 140.0, 162.0),
)
_HORIZON: Colour = (225.0, 232.0, 240.0)
_ZENITH: Colour = (105.0, 160.0, 230.0)

_AMBIENT, _DIFFUSE = 0.80, 0.30
_LIGHT = np.array((0.36, 0.48, 0.80))  # unit vector towards the one lamp, world axes


class Colours(eqx.Module):
    """Everything that has a colour, in [0, 255]; light and colour gains are factors on these."""

    faces: Float[Array, "F 6 3"]  # of a frame, lit; seen by a ray along +x, -x, +y, -y, +z, -z of the gate
    ground: Float[Array, " 3"]
    walls: Float[Array, "4 3"]
    horizon: Float[Array, " 3"]
    zenith: Float[Array, " 3"]


class Scene(eqx.Module):
    """Gates, each physical frame once, inside the flight volume.  SI units, world axes."""

    frame_pos: Float[Array, "F 3"]  # centres
    frame_cos: Float[Array, " F"]  # of the yaw
    frame_sin: Float[Array, " F"]
    half_opening: Scalar
    rim: Scalar
    hole_lo: Float[Array, " F"]  # lower edge of the opening, from the centre
    box_lo: Float[Array, " 3"]  # the floor is the ground
    box_hi: Float[Array, " 3"]  # walls end here, above is sky
    colours: Colours

    def with_frames(self, chosen: Int[Array, " K"] | slice) -> "Scene":
        """The same with these frames; colours stay those of all."""
        return replace(
            self,
            frame_pos=self.frame_pos[chosen],
            frame_cos=self.frame_cos[chosen],
            frame_sin=self.frame_sin[chosen],
            hole_lo=self.hole_lo[chosen],
        )


def build_scene(track: Track, *, equal_colours: bool) -> Scene:
    """The scene of a track; on the host, where the number of frames is known."""
    _, rows = np.unique(np.asarray(track.physical), return_index=True)
    yaw = np.asarray(track.gate_yaw, np.float64)[rows]
    half, rim = float(track.half_opening), float(track.rim)
    # The opening of a frame on posts ends below its outer edge, in the ground.
    lower = np.where(np.asarray(track.has_lower_rim)[rows], -half, -half - 2.0 * rim)
    lobe = np.zeros(len(rows), int) if equal_colours else lobes(track)[rows]
    return Scene(
        frame_pos=jnp.asarray(np.asarray(track.gate_pos)[rows]),
        frame_cos=_array(np.cos(yaw)),
        frame_sin=_array(np.sin(yaw)),
        half_opening=track.half_opening,
        rim=track.rim,
        hole_lo=_array(lower),
        box_lo=track.box_lo,
        box_hi=track.box_hi,
        colours=Colours(
            faces=_array([_faces(_GATES[k], y) for k, y in zip(lobe, yaw, strict=True)]),
            ground=_array(_GROUND),
            walls=_array(_WALLS),
            horizon=_array(_HORIZON),
            zenith=_array(_ZENITH),
        ),
    )


def lobes(track: Track) -> np.ndarray:
    """Per passage, 0 for a gate flown more than once per lap; between two such passes, 1 and 2 in turn.

    A figure of eight has a centre and two lobes; a track that never comes back to a gate is one lobe.
    """
    physical = np.asarray(track.physical)
    is_shared = np.bincount(physical)[physical] > 1
    crossings = np.cumsum(is_shared)
    return np.where(is_shared, 0, 1 + (crossings - 1) % 2 if is_shared.any() else 1)


def _faces(gate: tuple[Colour, Colour], yaw: float) -> np.ndarray:
    """Lit colours of the six faces of a frame, in the order of ``Colours.faces``."""
    front, back = gate
    side = np.mean((front, back), axis=0)
    forward, left, up = (np.cos(yaw), np.sin(yaw), 0.0), (-np.sin(yaw), np.cos(yaw), 0.0), (0.0, 0.0, 1.0)
    normals = [-sign * np.array(axis) for axis in (forward, left, up) for sign in (1.0, -1.0)]
    light = [_AMBIENT + _DIFFUSE * max(0.0, float(normal @ _LIGHT)) for normal in normals]
    return np.array(light)[:, None] * np.array([front, back, side, side, side, side])


def _array(values: object) -> Array:
    return jnp.asarray(values, jnp.float32)
