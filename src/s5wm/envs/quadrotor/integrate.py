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

    Kutta's third-order method, the rate controller in every stage: at ten substeps the position stays
    within 1 cm of 0.25 ms RK4 through 1 s of open-loop racing, which second order misses where rotors
    enter and leave saturation.
    """
    sim_dt = dt / commands.shape[0]

    def substep(state: QuadState, action: Float[Array, " 4"]) -> tuple[QuadState, None]:
        setpoint = bodyrate.scale(params, action)
        k_1 = _derivative(params, state, setpoint)
        k_2 = _derivative(params, _moved(state, k_1, 0.5 * sim_dt), setpoint)
        ahead = jax.tree.map(lambda a, b: 2.0 * b - a, k_1, k_2)
        k_3 = _derivative(params, _moved(state, ahead, sim_dt), setpoint)
        slope = jax.tree.map(lambda a, b, c: (a + 4.0 * b + c) / 6.0, k_1, k_2, k_3)
        return _moved(state, slope, sim_dt), None

    state, _ = jax.lax.scan(substep, state, commands)
    return _normalised(state)


def fly_rk4(
    params: QuadParams, state: QuadState, commands: Float[Array, "M 4"], *, dt: float = CTRL_DT
) -> QuadState:
    """The reference for ``fly``: classical fourth-order Runge-Kutta; 20 substeps make the usual 1 ms."""
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


def _derivative(params: QuadParams, state: QuadState, setpoint: bodyrate.Setpoint) -> QuadState:
    """The right-hand side of the equations of motion, in the shape of a state."""
    target = bodyrate.rotor_targets(params, setpoint, state.omega_b, state.rotor_speed)
    rotor_acceleration = rotors.acceleration(params, state.rotor_speed, target)
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
