"""Rotors: thrust and torque maps, motor lag."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.envs.quadrotor.params import QuadParams

Rotors = Float[Array, " 4"]


def thrust(params: QuadParams, rotor_speed: Rotors) -> Rotors:
    """``f_i = k_f Om_i^2``, N."""
    return params.thrust_coeff * rotor_speed**2


def speed_of(params: QuadParams, rotor_thrust: Rotors) -> Rotors:
    """Rotor speed that makes a thrust, within what the motors can turn, rad/s."""
    speed = jnp.sqrt(rotor_thrust / params.thrust_coeff)
    return jnp.clip(speed, params.rotor_speed_min, params.rotor_speed_max)


def acceleration(params: QuadParams, rotor_speed: Rotors, target: Rotors) -> Rotors:
    """First-order motor lag ``Om' = (Om_cmd - Om) / tau``, rad/s^2."""
    return (target - rotor_speed) / params.motor_tau


def thrust_torque(params: QuadParams, rotor_thrust: Rotors) -> Float[Array, " 3"]:
    """``[sum y_i f_i, -sum x_i f_i, kappa sum s_i f_i]``, Nm, body axes."""
    x, y = params.rotor_pos[:, 0], params.rotor_pos[:, 1]
    return jnp.stack(
        (
            jnp.sum(y * rotor_thrust),
            -jnp.sum(x * rotor_thrust),
            params.torque_coeff * jnp.sum(params.spin * rotor_thrust),
        )
    )


def inertia_torque(params: QuadParams, rotor_acceleration: Rotors) -> Float[Array, " 3"]:
    """Reaction to spinning rotors up and down, ``J_r sum s_i Om_i'`` about body z, Nm."""
    yaw = params.rotor_inertia * jnp.sum(params.spin * rotor_acceleration)
    return jnp.stack((jnp.zeros_like(yaw), jnp.zeros_like(yaw), yaw))
