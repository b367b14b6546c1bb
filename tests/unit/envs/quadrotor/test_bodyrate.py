import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s5wm.envs.quadrotor import bodyrate, rotors
from s5wm.envs.quadrotor.bodyrate import Setpoint
from s5wm.envs.quadrotor.integrate import fly, held
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.quadrotor.state import hover_state

PARAMS = QuadConfig().build()
allocate = jax.jit(bodyrate.allocate)
laws = settings(max_examples=60, deadline=None)
unit = st.floats(-1.0, 1.0, width=32)


def wrench(thrust):
    """Collective and torque that four thrusts make."""
    return float(jnp.sum(thrust)), np.asarray(rotors.thrust_torque(PARAMS, thrust))


@laws
@given(st.lists(unit, min_size=4, max_size=4))
def test_action_round_trip(values):
    action = jnp.array(values, jnp.float32)
    setpoint = bodyrate.scale(PARAMS, action)
    assert 0.0 <= setpoint.collective <= 4.0 * PARAMS.thrust_max
    assert jnp.all(jnp.abs(setpoint.omega_b) <= PARAMS.rate_max)
    np.testing.assert_allclose(bodyrate.unscale(PARAMS, setpoint), action, atol=1e-6)


def test_actions_are_clipped_and_full_scale_is_the_limit():
    setpoint = bodyrate.scale(PARAMS, jnp.array((3.0, -7.0, 1.0, 2.0)))
    assert setpoint.collective == pytest.approx(34.0)
    np.testing.assert_allclose(setpoint.omega_b, (-10.0, 10.0, 4.0))


@laws
@given(st.floats(12.0, 20.0, width=32), unit, unit, unit)
def test_allocation_inverts_the_rotor_map_away_from_limits(collective, roll, pitch, yaw):
    torque_b = jnp.array((0.4 * roll, 0.3 * pitch, 0.03 * yaw), jnp.float32)
    got_collective, got_torque = wrench(allocate(PARAMS, jnp.float32(collective), torque_b))
    assert got_collective == pytest.approx(collective, rel=1e-5)
    np.testing.assert_allclose(got_torque, torque_b, atol=2e-6)


@laws
@given(st.floats(0.0, 34.0, width=32), unit, unit, unit)
def test_saturation_keeps_roll_and_pitch_then_the_collective(collective, roll, pitch, yaw):
    torque_b = jnp.array((3.0 * roll, 2.0 * pitch, 2.0 * yaw), jnp.float32)
    low, high = float(PARAMS.thrust_min), float(PARAMS.thrust_max)
    thrust = allocate(PARAMS, jnp.float32(collective), torque_b)
    assert jnp.all((thrust >= low) & (thrust <= high))
    got_collective, got_torque = wrench(thrust)
    # what yaw may always have
    kept = min(abs(float(torque_b[2])) / 0.088, 0.15 * (high - low))
    assert abs(got_torque[2]) > 0.088 * kept - 1e-4
    low, high = low + kept, high - kept
    # the largest share of roll and pitch that any collective allows
    tilt = float(abs(torque_b[0])) / 0.4 + float(abs(torque_b[1])) / 0.3
    share = min(1.0, (high - low) / max(2.0 * tilt, 1e-9))
    np.testing.assert_allclose(got_torque[:2], share * torque_b[:2], atol=3e-5)
    # and the collective nearest to the wish that leaves room for them
    reach = 4.0 * min(tilt, 0.5 * (high - low))
    assert got_collective == pytest.approx(np.clip(collective, 4 * low + reach, 4 * high - reach), abs=2e-4)
    # yaw gets what is left, never the wrong way, never more than asked
    assert -1e-5 <= got_torque[2] * np.sign(torque_b[2]) <= abs(float(torque_b[2])) + 1e-5


def test_yaw_yields_first():
    torque_b = jnp.array((0.5, 0.0, 1.0))
    collective, torque = wrench(allocate(PARAMS, jnp.float32(16.0), torque_b))
    assert collective == pytest.approx(16.0, rel=1e-5)
    assert torque[0] == pytest.approx(0.5, rel=1e-4)
    assert 0.02 < torque[2] < 0.5  # all that fits beside them
    at_the_limit = allocate(PARAMS, jnp.float32(16.0), torque_b)
    assert jnp.any(
        jnp.isclose(at_the_limit, PARAMS.thrust_max) | jnp.isclose(at_the_limit, PARAMS.thrust_min)
    )


def test_yaw_keeps_a_reserve_at_full_throttle_and_costs_nothing_when_not_asked():
    collective, torque = wrench(allocate(PARAMS, jnp.float32(34.0), jnp.array((0.0, 0.0, 5.0))))
    assert torque[2] == pytest.approx(0.088 * 0.15 * 8.465, rel=1e-3)
    assert collective == pytest.approx(34.0 - 4.0 * 0.15 * 8.465, rel=1e-3)
    np.testing.assert_allclose(allocate(PARAMS, jnp.float32(34.0), jnp.zeros(3)), 8.5, rtol=1e-6)


def test_collective_yields_before_roll_at_full_and_at_no_throttle():
    for wish in (34.0, 0.0):
        collective, torque = wrench(allocate(PARAMS, jnp.float32(wish), jnp.array((0.8, 0.0, 0.0))))
        assert torque[0] == pytest.approx(0.8, rel=1e-4)
        assert 4.0 < abs(collective - wish) < 9.0


@jax.jit
def step_response(params, command):
    """Body rates every 2 ms for 0.4 s after a rate command at hover thrust."""
    action = bodyrate.unscale(params, Setpoint(collective=params.weight, omega_b=command))

    def step(state, _):
        state = fly(params, state, held(action, 1), dt=0.002)
        return state, state.omega_b

    return jax.lax.scan(step, hover_state(params, jnp.zeros(3), jnp.float32(0.0)), length=200)[1]


@pytest.mark.parametrize("name", ["agil5", "kolibri"])
@pytest.mark.parametrize(
    ("axis", "size", "t63", "overshoot"),
    [(0, 5.0, 0.026, 0.10), (0, -5.0, 0.026, 0.10), (1, 5.0, 0.028, 0.095), (2, 2.0, 0.024, 0.21)],
)
def test_step_response_matches_the_measured_firmware(name, axis, size, t63, overshoot):
    rates = np.asarray(step_response(QuadConfig(name=name).build(), size * jnp.eye(3)[axis]))
    response = np.concatenate(([0.0], rates[:, axis] / size))
    after = int(np.argmax(response >= 0.632))
    rise = 0.002 * (after - (response[after] - 0.632) / (response[after] - response[after - 1]))
    assert rise == pytest.approx(t63, abs=0.003)
    assert response.max() - 1.0 == pytest.approx(overshoot, abs=0.05)
    assert response[-1] == pytest.approx(1.0, abs=0.01)
    others = np.delete(rates, axis, axis=1)
    assert np.abs(others).max() < 1e-3
