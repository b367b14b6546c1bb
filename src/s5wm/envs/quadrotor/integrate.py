"""Flight over one control period: the training integrator and the reference."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s5wm.envs.quadrotor import bodyrate, quaternion, rotors
from s5wm.envs.quadrotor.params import QuadParams
from s5wm.envs.quadrotor.rigid_body import acceleration, angular_acceleration
from s5wm.envs.quadrotor.state import QuadState

CTRL_DT = 0.02
"""s between two actions."""
SUBSTEPS = 10
"""Integration steps per control period in training."""


def held(action: Float[Array, " 4"], substeps: int = SUBSTEPS) -> Float[Array, "M 4"]:
    """One action through the whole period."""
    return jnp.broadcast_to(action, (substeps, 4))


def delayed(
    previous: Float[Array, " 4"],
    action: Float[Array, " 4"],
    delay_substeps: int | Int[Array, ""],
    substeps: int = SUBSTEPS,
) -> Float[Array, "M 4"]:
    """The previous action until ``delay_substeps`` substeps have passed, then the new one."""
    is_late = jnp.arange(substeps)[:, None] < delay_substeps
    return jnp.where(is_late, previous, action)


def fly(
    params: QuadParams, state: QuadState, commands: Float[Array, "M 4"], *, dt: float = CTRL_DT
) -> QuadState:
    """One control period of ``dt`` s in ``M`` substeps, one CTBR action in ``[-1, 1]`` per substep.

    Second order: explicit midpoint, with the exponential map for the attitude and the exact
    exponential for the motors.
    """
    sim_dt = dt / commands.shape[0]

    def substep(state: QuadState, action: Float[Array, " 4"]) -> tuple[QuadState, None]:
        return _midpoint(params, state, bodyrate.scale(params, action), sim_dt), None

    state, _ = jax.lax.scan(substep, state, commands)
    return _normalised(state)


def fly_rk4(
    params: QuadParams, state: QuadState, commands: Float[Array, "M 4"], *, dt: float = CTRL_DT
) -> QuadState:
    """The reference for ``fly``: classical Runge-Kutta of fourth order, rate controller in every stage."""
    sim_dt = dt / commands.shape[0]

    def substep(state: QuadState, action: Float[Array, " 4"]) -> tuple[QuadState, None]:
        setpoint = bodyrate.scale(params, action)
        k_1 = _derivative(params, state, setpoint)
        k_2 = _derivative(params, _moved(state, k_1, 0.5 * sim_dt), setpoint)
        k_3 = _derivative(params, _moved(state, k_2, 0.5 * sim_dt), setpoint)
        k_4 = _derivative(params, _moved(state, k_3, sim_dt), setpoint)
        slope = jax.tree.map(lambda a, b, c, d: (a + 2.0 * b + 2.0 * c + d) / 6.0, k_1, k_2, k_3, k_4)
        return _moved(state, slope, sim_dt), None

    state, _ = jax.lax.scan(substep, state, commands)
    return _normalised(state)


def _midpoint(params: QuadParams, state: QuadState, setpoint: bodyrate.Setpoint, dt: float) -> QuadState:
    half = _euler(params, state, state, setpoint, 0.5 * dt)
    return _euler(params, state, half, setpoint, dt)


def _euler(
    params: QuadParams, state: QuadState, at: QuadState, setpoint: bodyrate.Setpoint, dt: float
) -> QuadState:
    """``state`` moved by ``dt`` along the slope found ``at`` another state."""
    target = bodyrate.rotor_targets(params, setpoint, at.omega_b, at.rotor_speed)
    rotor_speed = rotors.follow(params, state.rotor_speed, target, dt)
    thrust = rotors.thrust(params, at.rotor_speed)
    # the mean acceleration of the rotors: conserves angular momentum about yaw exactly
    torque_b = rotors.thrust_torque(params, thrust) + rotors.inertia_torque(
        params, (rotor_speed - state.rotor_speed) / dt
    )
    accel_w = acceleration(params, at.quat, at.vel_w, jnp.sum(thrust))
    return QuadState(
        pos_w=state.pos_w + dt * at.vel_w,
        vel_w=state.vel_w + dt * accel_w,
        quat=quaternion.integrate(state.quat, at.omega_b, dt),
        omega_b=state.omega_b + dt * angular_acceleration(params, at.omega_b, torque_b),
        rotor_speed=rotor_speed,
    )


def _derivative(params: QuadParams, state: QuadState, setpoint: bodyrate.Setpoint) -> QuadState:
    """The right-hand side of the equations of motion, in the shape of a state."""
    target = bodyrate.rotor_targets(params, setpoint, state.omega_b, state.rotor_speed)
    rotor_acceleration = (target - state.rotor_speed) / params.motor_tau
    thrust = rotors.thrust(params, state.rotor_speed)
    torque_b = rotors.thrust_torque(params, thrust) + rotors.inertia_torque(params, rotor_acceleration)
    spin_quat = jnp.concatenate((jnp.zeros_like(state.omega_b[:1]), state.omega_b))
    return QuadState(
        pos_w=state.vel_w,
        vel_w=acceleration(params, state.quat, state.vel_w, jnp.sum(thrust)),
        quat=0.5 * quaternion.multiply(state.quat, spin_quat),
        omega_b=angular_acceleration(params, state.omega_b, torque_b),
        rotor_speed=rotor_acceleration,
    )


def _moved(state: QuadState, slope: QuadState, dt: float) -> QuadState:
    return jax.tree.map(lambda x, dx: x + dt * dx, state, slope)


def _normalised(state: QuadState) -> QuadState:
    return eqx.tree_at(lambda s: s.quat, state, quaternion.normalise(state.quat))
