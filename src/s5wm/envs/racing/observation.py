"""What a state policy sees of the race, and the privileged vector behind it."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s5wm.envs.quadrotor.quaternion import to_matrix
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.track import MAX_GATES, Track
from s5wm.types import Scalar

Layout = Literal["B", "A"]

OBS_SIZE = 24
PRIVILEGED_SIZE = OBS_SIZE + 4 + 4 + MAX_GATES

POSITION_SCALE = 10.0  # m
VELOCITY_SCALE = 15.0  # m/s
RATE_SCALE = 10.0  # rad/s


class View(eqx.Module):
    """What an observation is computed from."""

    quad: QuadState
    target: Int[Array, ""]  # the gate to pass next
    action: Float[Array, " 4"]  # the last one flown, clipped to [-1, 1]; zeros at the start of an episode


def observe(layout: Layout, track: Track, view: View) -> Float[Array, " 24"]:
    """The policy's observation in the layout chosen."""
    return observe_b(track, view) if layout == "B" else observe_a(track, view)


def observe_b(track: Track, view: View) -> Float[Array, " 24"]:
    """Layout B, in world axes: ``p/10, v/15, R e_x, R e_y, w/10, (g-p)/10, (g'-g)/10, n``.

    ``R`` is the attitude (body to world), ``w`` the body rates, ``g`` the centre of the target, ``g'`` of
    the gate after it, ``n`` the direction in which the target is passed.
    """
    quad, target = view.quad, view.target
    rotation = to_matrix(quad.quat)
    gate, after = track.gate_pos[target], track.gate_pos[track.following(target)]
    return jnp.concatenate(
        [
            quad.pos_w / POSITION_SCALE,
            quad.vel_w / VELOCITY_SCALE,
            rotation[:, 0],
            rotation[:, 1],
            quad.omega_b / RATE_SCALE,
            (gate - quad.pos_w) / POSITION_SCALE,
            (after - gate) / POSITION_SCALE,
            track.normal[target],
        ]
    )


def observe_a(track: Track, view: View) -> Float[Array, " 24"]:
    """Layout A, in world axes: ``v/15``, ``R`` by rows, the target's four corners less ``p``, over 10."""
    quad = view.quad
    corners = track.corners[view.target] - quad.pos_w[None]
    return jnp.concatenate(
        [quad.vel_w / VELOCITY_SCALE, to_matrix(quad.quat).ravel(), corners.ravel() / POSITION_SCALE]
    )


def privileged(track: Track, view: View, omega_max: Scalar) -> Float[Array, " 40"]:
    """Layout B, rotor speeds over the largest (4), the last action (4) and the target as one-hot (8)."""
    return jnp.concatenate(
        [
            observe_b(track, view),
            view.quad.rotor_speed / omega_max,
            view.action,
            jax.nn.one_hot(view.target, MAX_GATES, dtype=jnp.float32),
        ]
    )
