"""Laws of motion, through the integrator that trains."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.envs.quadrotor import bodyrate, quaternion, rigid_body, rotors
from s5wm.envs.quadrotor.bodyrate import Setpoint
from s5wm.envs.quadrotor.integrate import fly, held
from s5wm.envs.quadrotor.params import GRAVITY, QuadConfig, QuadParams
from s5wm.envs.quadrotor.state import QuadState, hover_state

PARAMS = QuadConfig().build()


def without_air(params: QuadParams) -> QuadParams:
    return eqx.tree_at(lambda p: (p.drag, p.lift), params, (jnp.zeros(3), jnp.float32(0.0)))


def without_rotors(params: QuadParams) -> QuadParams:
    nothing = jnp.float32(1e-20)
    return eqx.tree_at(lambda p: (p.thrust_coeff, p.rotor_inertia), params, (nothing, nothing))


@jax.jit
def trajectory(params, state, actions):
    """States after every control period, the start in front."""

    def step(state, action):
        after = fly(params, state, held(action))
        return after, after

    states = jax.lax.scan(step, state, actions)[1]
    return jax.tree.map(lambda first, rest: jnp.concatenate((first[None], rest)), state, states)


def tumbling() -> QuadState:
    state = hover_state(PARAMS, jnp.array((1.0, 2.0, 3.0)), jnp.float32(0.4))
    velocity, omega_b = jnp.array((4.0, -3.0, 6.0)), jnp.array((7.0, -4.0, 5.0))
    return eqx.tree_at(lambda s: (s.vel_w, s.omega_b), state, (velocity, omega_b))


def energy(params, states):
    vel_w, omega_b = np.asarray(states.vel_w, np.float64), np.asarray(states.omega_b, np.float64)
    height = np.asarray(states.pos_w, np.float64)[:, 2]
    linear = 0.5 * float(params.mass) * (vel_w**2).sum(1) + float(params.weight) * height
    return linear, 0.5 * (np.asarray(params.inertia) * omega_b**2).sum(1)


NO_ACTION = jnp.zeros((50, 4))


@pytest.mark.parametrize(
    "config", [QuadConfig(), QuadConfig(name="kolibri"), QuadConfig(thrust_to_weight=2.5)]
)
def test_hover_is_an_equilibrium(config):
    params = config.build()
    action = bodyrate.unscale(params, Setpoint(collective=params.weight, omega_b=jnp.zeros(3)))
    start = hover_state(params, jnp.array((1.0, -2.0, 1.5)), jnp.float32(1.0))
    states = trajectory(params, start, jnp.tile(action, (100, 1)))
    np.testing.assert_allclose(states.pos_w[-1], start.pos_w, atol=1e-3)
    np.testing.assert_allclose(states.vel_w[-1], 0.0, atol=1e-3)
    np.testing.assert_allclose(states.quat[-1], start.quat, atol=1e-5)


def test_free_fall():
    params = without_rotors(without_air(PARAMS))
    states = trajectory(params, tumbling(), NO_ACTION)
    time = 0.02 * np.arange(51)[:, None]
    start_pos, start_vel = np.array((1.0, 2.0, 3.0)), np.array((4.0, -3.0, 6.0))
    gravity = np.array((0.0, 0.0, -GRAVITY))
    np.testing.assert_allclose(states.vel_w, start_vel + gravity * time, atol=1e-4)
    np.testing.assert_allclose(
        states.pos_w, start_pos + start_vel * time + 0.5 * gravity * time**2, atol=1e-4
    )


def test_energy_is_kept_without_air_and_lost_with_it():
    linear, angular = energy(PARAMS, trajectory(without_rotors(without_air(PARAMS)), tumbling(), NO_ACTION))
    np.testing.assert_allclose(linear, linear[0], rtol=1e-5)
    np.testing.assert_allclose(angular, angular[0], rtol=1e-4)
    params = eqx.tree_at(lambda p: p.lift, without_rotors(PARAMS), jnp.float32(0.0))
    linear, _ = energy(PARAMS, trajectory(params, tumbling(), NO_ACTION))
    assert np.all(np.diff(linear) < 0.0)


def test_torque_free_tumbling_conserves_angular_momentum():
    states = trajectory(without_rotors(PARAMS), tumbling(), NO_ACTION)
    momentum = jax.vmap(quaternion.rotate)(states.quat, states.omega_b * PARAMS.inertia[None])
    np.testing.assert_allclose(
        momentum, jnp.tile(momentum[0], (51, 1)), atol=float(2e-4 * jnp.linalg.norm(momentum[0]))
    )
    # the body really tumbles: its rates change while the momentum does not
    assert jnp.ptp(states.omega_b, axis=0).min() > 0.5


def test_momentum_and_energy_follow_the_thrust():
    params = without_air(PARAMS)
    actions = jnp.asarray(0.6 * np.sin(np.arange(50)[:, None] * np.array((0.2, 0.3, 0.25, 0.1))), jnp.float32)
    states = trajectory(params, tumbling(), actions)
    force_b = jnp.zeros((51, 3)).at[:, 2].set(jnp.sum(params.thrust_coeff * states.rotor_speed**2, axis=1))
    force_w = np.asarray(jax.vmap(quaternion.rotate)(states.quat, force_b), np.float64)
    weight = np.array((0.0, 0.0, -float(params.weight)))
    impulse = 0.02 * (0.5 * (force_w[1:] + force_w[:-1])).sum(0) + weight  # over 1 s
    gained = float(params.mass) * np.asarray(states.vel_w[-1] - states.vel_w[0])
    np.testing.assert_allclose(gained, impulse, atol=0.02 * np.abs(force_w).sum(0).max() * 0.02)
    power = (force_w * np.asarray(states.vel_w)).sum(1)
    work = 0.02 * (0.5 * (power[1:] + power[:-1])).sum()
    linear, _ = energy(params, states)
    assert linear[-1] - linear[0] == pytest.approx(work, rel=0.01)


def test_air_forces():
    force = rigid_body.aero_force(PARAMS, jnp.array((10.0, -5.0, 2.0)))
    np.testing.assert_allclose(force, (-2.6, 1.4, -0.84 + 0.01 * 125.0), rtol=1e-5)
    # terminal speed, level and with idling rotors
    lone = without_rotors(PARAMS)
    states = trajectory(lone, hover_state(PARAMS, jnp.zeros(3), jnp.float32(0.0)), jnp.zeros((1000, 4)))
    assert -states.vel_w[-1, 2] == pytest.approx(float(PARAMS.weight) / 0.42, rel=1e-3)


def test_torque_signs():
    stronger = jnp.eye(4) + 1.0  # one rotor more at a time: FR, BL, BR, FL
    torque = jax.vmap(rotors.thrust_torque, in_axes=(None, 0))(PARAMS, stronger)
    # FLU: roll + lifts the left side, pitch + lowers the nose, and FR, BL turn the nose right
    np.testing.assert_array_equal(jnp.sign(torque), [[-1, -1, -1], [1, 1, -1], [-1, 1, 1], [1, -1, 1]])
    spinning_up = rotors.inertia_torque(PARAMS, 100.0 * jnp.maximum(PARAMS.spin, 0.0))
    np.testing.assert_allclose(spinning_up, (0.0, 0.0, 2 * 100.0 * 5.64e-6), rtol=1e-5)


def test_motors_lag_first_order():
    # a collective step only: no rate error, so the rotors follow one exponential
    params = without_air(PARAMS)
    hover = hover_state(params, jnp.zeros(3), jnp.float32(0.0))
    states = trajectory(params, hover, NO_ACTION.at[:, 0].set(0.5))
    target = np.asarray(rotors.speed_of(params, jnp.full(4, 0.75 * params.thrust_max)))
    start = np.asarray(states.rotor_speed[0])
    expected = target + (start - target) * np.exp(-0.02 * np.arange(51)[:, None] / 0.033)
    np.testing.assert_allclose(states.rotor_speed, expected, rtol=1e-4)
