"""State observations of the race, and its privileged vector."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s5wm.envs.quadrotor.quaternion import to_matrix
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.track import MAX_GATES, Track
from s5wm.types import Scalar

Layout = Literal["B", "A", "C"]
PrivilegedLayout = Literal["B", "C"]  # layout A does not tell where the drone is

POSITION_SCALE = 10.0  # m
VELOCITY_SCALE = 15.0  # m/s
RATE_SCALE = 10.0  # rad/s
NEAR = 1.0  # m along a gate's axis that layout C resolves best
LOW = 2.0  # m above the ground that it does


class View(eqx.Module):
    """Inputs of an observation."""

    quad: QuadState
    target: Int[Array, ""]  # the gate to pass next
    action: Float[
        Array, " 4"
    ]  # the last one flown, clipped to [-1, 1]; from the start pose first that of hovering
    clearance: Scalar  # m from the target's axis to where the rim begins for the drone's centre


def observe(layout: Layout, track: Track, view: View) -> Float[Array, " O"]:
    """The policy's observation in the layout chosen."""
    return _LAYOUTS[layout](track, view)


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


def observe_c(track: Track, view: View) -> Float[Array, " 27"]:
    """Layout C, in body axes: ``v/15, e_z, w/10, (g-p)/10, n, (g'-p)/10, n', near, tanh(z/2), cos, sin of 2 pi k/G``.

    ``e_z`` is the direction of up, ``g`` and ``n`` centre and passing direction of the target, ``g'`` and ``n'`` of the
    gate after it, ``z`` the height, ``k`` the target's number of ``G``.  ``near = tanh(x/1 m, y/c, z/c)`` magnifies
    the drone's place in the frame of the target, where ``c`` is the clearance: whatever the opening, the rim begins at
    ``tanh(1)``.  A quadrotor flies alike in every direction and gates are alike: here one gate teaches all, and a
    switch of target moves the second gate's numbers to the first's place.
    """
    quad, target = view.quad, view.target
    after = track.following(target)
    to_gate_w, normal = track.gate_pos[target] - quad.pos_w, track.normal[target]
    seen_w = jnp.stack(
        [
            quad.vel_w / VELOCITY_SCALE,
            jnp.array([0.0, 0.0, 1.0]),
            to_gate_w / POSITION_SCALE,
            normal,
            (track.gate_pos[after] - quad.pos_w) / POSITION_SCALE,
            track.normal[after],
        ]
    )
    # Rows R^T x; some accelerators would round the factors to ten bits, 5 mm of a gate that is 5 m away.
    velocity, up, *gates = jnp.matmul(seen_w, to_matrix(quad.quat), precision="highest")
    along, aside = -jnp.sum(to_gate_w * normal), -jnp.sum(to_gate_w * track.left[target])
    near = jnp.stack([along / NEAR, aside / view.clearance, -to_gate_w[2] / view.clearance])
    phase = 2.0 * jnp.pi * target / track.num_gates
    return jnp.concatenate(
        [
            velocity,
            up,
            quad.omega_b / RATE_SCALE,
            *gates,
            jnp.tanh(near),
            jnp.stack([jnp.tanh(quad.pos_w[2] / LOW), jnp.cos(phase), jnp.sin(phase)]),
        ]
    )


OBS_SIZES: dict[Layout, int] = {"A": 24, "B": 24, "C": 27}
_LAYOUTS: dict[Layout, Callable[[Track, View], Float[Array, " O"]]] = {
    "A": observe_a,
    "B": observe_b,
    "C": observe_c,
}


def target_from(layout: Layout) -> int:
    """Where the target begins in the privileged vector, to its end."""
    return OBS_SIZES[layout] + 4 + 4


def privileged_size(layout: PrivilegedLayout, track: Track) -> int:
    """Numbers of the privileged vector."""
    return target_from(layout) + max(MAX_GATES, track.num_gates)


def privileged(layout: PrivilegedLayout, track: Track, view: View, omega_max: Scalar) -> Float[Array, " X"]:
    """A layout, rotor speeds over the largest (4), the last action (4), the target as one-hot (8, or all gates)."""
    return jnp.concatenate(
        [
            observe(layout, track, view),
            view.quad.rotor_speed / omega_max,
            view.action,
            jax.nn.one_hot(view.target, max(MAX_GATES, track.num_gates), dtype=jnp.float32),
        ]
    )
