"""Where a drone is in the world, by a state in layout C."""

import numpy as np
from jaxtyping import Float, Int

from s5wm.envs.racing.observation import POSITION_SCALE
from s5wm.runs.flights import TrackGeometry

UP, GATE, NORMAL, PHASE = slice(3, 6), slice(9, 12), slice(12, 15), slice(25, 27)
"""Places in observation layout C."""


def positions_in_gate_frame(
    track: TrackGeometry, state: Float[np.ndarray, "*b 27"]
) -> Float[np.ndarray, "*b 3"]:
    """World positions (m) of states in layout C, which has everything in body axes.

    Up and the target's passing direction are known in body and in world axes: they fix the attitude ``R``, and
    ``p = g - R (g - p)_b`` with the centre ``g`` of the target that the state names.
    """
    target = _targets(track, state[..., PHASE])
    yaw = np.asarray(track.gate_yaw)[target]
    in_body = _frame(state[..., NORMAL], state[..., UP])
    normal = np.stack([np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)], axis=-1)
    in_world = _frame(normal, np.broadcast_to(np.array([0.0, 0.0, 1.0]), normal.shape))
    to_gate = np.einsum(
        "...ij,...i->...j", in_world, np.einsum("...ij,...j->...i", in_body, state[..., GATE])
    )
    return np.asarray(track.gate_pos)[target] - POSITION_SCALE * to_gate


def _targets(track: TrackGeometry, phase: Float[np.ndarray, "*b 2"]) -> Int[np.ndarray, "*b"]:
    """The number of the target, from cosine and sine of its share of a turn."""
    count = len(track.gate_pos)
    share = np.arctan2(phase[..., 1], phase[..., 0]) / (2.0 * np.pi)
    return np.where(np.isfinite(share), np.round(count * share), 0).astype(int) % count


def _frame(ahead: Float[np.ndarray, "*b 3"], up: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Rows: up, ahead made orthogonal to it, and left."""
    e_z = _unit(up)
    e_x = _unit(ahead - np.sum(ahead * e_z, axis=-1, keepdims=True) * e_z)
    return np.stack([e_z, e_x, np.cross(e_z, e_x)], axis=-2)


def _unit(vector: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)
