"""From an action (collective thrust and body rates, CTBR) to commanded rotor thrusts."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.envs.quadrotor import rotors
from s5wm.envs.quadrotor.params import QuadParams
from s5wm.envs.quadrotor.rigid_body import gyroscopic_torque

YAW_RESERVE = 0.15
"""Part of a rotor's thrust range that yaw may always use.

With none, full (or no) collective leaves yaw without control, and the gyroscopic torque of fast roll and
pitch spins the body up without bound.
"""


class Setpoint(eqx.Module):
    """A scaled CTBR command."""

    collective: Float[Array, ""]  # N, sum of the four thrusts
    omega_b: Float[Array, " 3"]  # rad/s


def scale(params: QuadParams, action: Float[Array, " 4"]) -> Setpoint:
    """``[-1, 1]`` to ``[0, 4 f_max]`` and to plus or minus ``rate_max``; the only place where actions get units."""
    action = jnp.clip(action, -1.0, 1.0)
    return Setpoint(
        collective=2.0 * params.thrust_max * (action[0] + 1.0), omega_b=params.rate_max * action[1:]
    )


def clipped(action: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """The action within ``[-1, 1]``; 0 where it is not finite."""
    return jnp.clip(jnp.where(jnp.isfinite(action), action, 0.0), -1.0, 1.0)


def unscale(params: QuadParams, setpoint: Setpoint) -> Float[Array, " 4"]:
    """Inverse of ``scale``."""
    collective = setpoint.collective / (2.0 * params.thrust_max) - 1.0
    return jnp.concatenate((collective[None], setpoint.omega_b / params.rate_max))


def hover_action(params: QuadParams) -> Float[Array, " 4"]:
    """The action that carries the weight without turning."""
    return unscale(params, Setpoint(collective=params.weight, omega_b=jnp.zeros(3)))


def rate_torque(
    params: QuadParams,
    setpoint: Setpoint,
    omega_b: Float[Array, " 3"],
    rotor_torque: Float[Array, " 3"],
) -> Float[Array, " 3"]:
    """``tau = J K (w_cmd - w) - K_d tau_rotors + w x J w``, Nm, with the inertia ``J`` that the controller assumes.

    The torque that the rotors make now stands for the filtered gyro derivative of a firmware: with the
    motor lag it gives ``tau_m w'' + (1 + K_d) w' + K w = K w_cmd`` on roll and pitch.  On yaw, where the
    rotors' own inertia does the damping, ``K_d`` near -1 makes the controller incremental, as a firmware's
    integral term does.
    """
    error = setpoint.omega_b - omega_b
    return (
        params.assumed_inertia * params.rate_gain * error
        - params.rate_damping * rotor_torque
        + gyroscopic_torque(params.assumed_inertia, omega_b)
    )


def allocate(
    params: QuadParams, collective: Float[Array, ""], torque_b: Float[Array, " 3"]
) -> Float[Array, " 4"]:
    """Rotor thrusts in ``[f_min, f_max]`` for a wrench, N.

    Where the rotors cannot give it all, yaw yields first (down to ``YAW_RESERVE``), then the collective,
    then roll and pitch (scaled together, so that their direction is kept).
    """
    x, y = params.rotor_pos[:, 0], params.rotor_pos[:, 1]
    span = params.thrust_max - params.thrust_min
    yaw = torque_b[2] / (4.0 * params.torque_coeff)
    kept = jnp.minimum(jnp.abs(yaw), YAW_RESERVE * span)
    low, high = params.thrust_min + kept, params.thrust_max - kept
    tilt = torque_b[0] * y / jnp.sum(y * y) - torque_b[1] * x / jnp.sum(x * x)
    tilt_span = jnp.max(tilt) - jnp.min(tilt)
    tilt = tilt * jnp.minimum(1.0, (high - low) / jnp.maximum(tilt_span, 1e-6))
    base = jnp.clip(0.25 * collective, low - jnp.min(tilt), high - jnp.max(tilt)) + tilt
    room = kept + jnp.min(jnp.where(params.spin * yaw > 0.0, high - base, base - low))
    thrust = base + params.spin * jnp.clip(yaw, -room, room)
    return jnp.clip(thrust, params.thrust_min, params.thrust_max)


def rotor_targets(
    params: QuadParams, setpoint: Setpoint, omega_b: Float[Array, " 3"], rotor_speed: Float[Array, " 4"]
) -> Float[Array, " 4"]:
    """Rotor speeds that the rate controller asks for, rad/s."""
    rotor_torque = rotors.thrust_torque(params, rotors.thrust(params, rotor_speed))
    torque_b = rate_torque(params, setpoint, omega_b, rotor_torque)
    return rotors.speed_of(params, allocate(params, setpoint.collective, torque_b))
