"""State of the quadrotor and the command that drives it."""

import equinox as eqx
from jaxtyping import Array, Float


class QuadState(eqx.Module):
    """Rigid body with four rotors.  SI units; ``_w`` world frame (z up), ``_b`` body frame (FLU)."""

    pos_w: Float[Array, "*b 3"]  # m
    vel_w: Float[Array, "*b 3"]  # m/s
    quat: Float[Array, "*b 4"]  # body to world, w first, unit norm
    omega_b: Float[Array, "*b 3"]  # rad/s
    rotor_speed: Float[Array, "*b 4"]  # rad/s, order FR, BL, BR, FL
