"""State of the quadrotor and the command that drives it."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.envs.quadrotor import quaternion
from s5wm.envs.quadrotor.params import QuadParams


class QuadState(eqx.Module):
    """Rigid body with four rotors.  SI units; ``_w`` world frame (z up), ``_b`` body frame (FLU)."""

    pos_w: Float[Array, "*b 3"]  # m
    vel_w: Float[Array, "*b 3"]  # m/s
    quat: Float[Array, "*b 4"]  # body to world, w first, unit norm
    omega_b: Float[Array, "*b 3"]  # rad/s
    rotor_speed: Float[Array, "*b 4"]  # rad/s, order FR, BL, BR, FL


def hover_state(params: QuadParams, pos_w: Float[Array, " 3"], yaw: Float[Array, ""]) -> QuadState:
    """At rest and level at ``pos_w``, nose at ``yaw`` rad, rotors carrying the weight."""
    speed = jnp.sqrt(params.weight / (4.0 * params.thrust_coeff))
    pos_w = jnp.asarray(pos_w, jnp.float32)
    return QuadState(
        pos_w=pos_w,
        vel_w=jnp.zeros_like(pos_w),
        quat=quaternion.from_yaw(jnp.asarray(yaw, pos_w.dtype)),
        omega_b=jnp.zeros_like(pos_w),
        rotor_speed=jnp.broadcast_to(speed, (4,)),
    )
