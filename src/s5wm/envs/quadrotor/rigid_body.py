"""Newton-Euler equations of the airframe."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.envs.quadrotor import quaternion
from s5wm.envs.quadrotor.params import GRAVITY, QuadParams

Vec3 = Float[Array, " 3"]

LIFT_SPEED_MAX = 25.0
"""m/s; translational lift grows no further.  A square law without end beats the linear drag above some
40 m/s, and a tumbling body would then gain energy from the air."""


def aero_force(params: QuadParams, vel_b: Vec3) -> Vec3:
    """Rotor drag ``-diag(k) v`` and translational lift ``k_h (vx^2 + vy^2)`` along body z, N."""
    vx, vy, _ = vel_b
    lift = params.lift * jnp.minimum(vx**2 + vy**2, LIFT_SPEED_MAX**2)
    return jnp.stack((jnp.zeros_like(lift), jnp.zeros_like(lift), lift)) - params.drag * vel_b


def acceleration(
    params: QuadParams, quat: Float[Array, " 4"], vel_w: Vec3, collective: Float[Array, ""]
) -> Vec3:
    """``v' = g + R ([0, 0, sum f] + F_aero) / m``, m/s^2, world axes; ``collective`` is the sum of thrusts, N.

    ``F_aero`` is that of the velocity relative to the air.
    """
    air_b = quaternion.rotate_inverse(quat, vel_w - params.wind_w)
    force_b = aero_force(params, air_b).at[2].add(collective)
    accel_w = quaternion.rotate(quat, force_b / params.mass)
    return accel_w - jnp.array((0.0, 0.0, GRAVITY), accel_w.dtype)


def gyroscopic_torque(inertia: Vec3, omega_b: Vec3) -> Vec3:
    """``w x J w``, Nm, of principal moments of inertia in kg m^2."""
    p, q, r = omega_b
    jx, jy, jz = inertia
    return jnp.stack(((jz - jy) * q * r, (jx - jz) * p * r, (jy - jx) * p * q))


def angular_acceleration(params: QuadParams, omega_b: Vec3, torque_b: Vec3) -> Vec3:
    """``w' = J^-1 (tau - w x J w)``, rad/s^2, body axes."""
    return (torque_b - gyroscopic_torque(params.inertia, omega_b)) / params.inertia
