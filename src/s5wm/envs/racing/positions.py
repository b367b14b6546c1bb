"""Pose of a drone in the world, by a state in layout C."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s5wm.envs.racing.observation import POSITION_SCALE

UP, GATE, NORMAL, PHASE = slice(3, 6), slice(9, 12), slice(12, 15), slice(25, 27)
"""Places in observation layout C."""


class WorldPose(NamedTuple):
    """Position and attitude."""

    pos_w: Float[Array, "*b 3"]  # m
    rotation: Float[Array, "*b 3 3"]  # body to world


def pose_from_layout_c(
    gate_pos: Float[Array, "G 3"], gate_yaw: Float[Array, " G"], state: Float[Array, "*b Y"]
) -> WorldPose:
    """World poses of states that begin with layout C, which has everything in body axes.

    Up and the target's passing direction are known in body and in world axes: they fix the attitude ``R``, and
    ``p = g - R (g - p)_b`` with the centre ``g`` of the target that the state names.
    """
    target = _targets(len(gate_pos), state[..., PHASE])
    yaw = jnp.asarray(gate_yaw)[target]
    in_body = _frame(state[..., NORMAL], state[..., UP])
    normal = jnp.stack([jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw)], axis=-1)
    in_world = _frame(normal, jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), normal.shape))
    rotation = jnp.einsum("...ji,...jk->...ik", in_world, in_body)
    to_gate = jnp.einsum("...ij,...j->...i", rotation, state[..., GATE])
    return WorldPose(jnp.asarray(gate_pos)[target] - POSITION_SCALE * to_gate, rotation)


def _targets(count: int, phase: Float[Array, "*b 2"]) -> Int[Array, "*b"]:
    """The number of the target, from cosine and sine of its share of a turn."""
    share = jnp.arctan2(phase[..., 1], phase[..., 0]) / (2.0 * jnp.pi)
    return jnp.where(jnp.isfinite(share), jnp.round(count * share), 0).astype(int) % count


def _frame(ahead: Float[Array, "*b 3"], up: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rows: up, ahead made orthogonal to it, and left."""
    e_z = _unit(up)
    e_x = _unit(ahead - jnp.sum(ahead * e_z, axis=-1, keepdims=True) * e_z)
    return jnp.stack([e_z, e_x, jnp.cross(e_z, e_x)], axis=-2)


def _unit(vector: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    return vector / jnp.maximum(jnp.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)
