"""Episodes begin where the mixture says, within the noise, from states of this copy and no other."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor import quaternion
from s5wm.envs.quadrotor.bodyrate import hover_action
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.quadrotor.state import hover_state
from s5wm.envs.racing.restarts import SLOTS, Moment, ResetNoise, draw_restart, empty_buffer, remember
from s5wm.envs.racing.track import SplitSConfig

TRACK, PARAMS = SplitSConfig().build(), QuadConfig().build()
HOVER = hover_action(PARAMS)
START = hover_state(PARAMS, TRACK.start_pos, TRACK.start_yaw)
BEGIN = Moment(quad=START, action=HOVER)
NOISE = ResetNoise()
STILL = ResetNoise(pos=(0.0, 0.0, 0.0), vel=0.0, tilt=0.0, rate=0.0)

_draw = jax.jit(
    lambda buffer, p_start, keys, noise: jax.vmap(
        lambda key: draw_restart(TRACK, BEGIN, buffer, noise, p_start, key)
    )(keys),
    static_argnums=3,
)


def draw(p_start, *, noise=NOISE, buffer=None, n=2000):
    buffer = empty_buffer(TRACK, PARAMS) if buffer is None else buffer
    return _draw(buffer, jnp.asarray(p_start), jr.split(jr.key(0), n), noise)


def test_noise_of_the_start_pose():
    begun = draw(1.0)
    assert bool(jnp.all(begun.from_start)) and bool(jnp.all(begun.target == 0))
    for value, width in (
        (begun.quad.pos_w - TRACK.start_pos[None], (0.5, 0.5, 0.3)),
        (begun.quad.vel_w, (0.125,) * 3),
        (begun.quad.omega_b, (np.deg2rad(5.0),) * 3),
    ):
        extent = np.abs(np.asarray(value)).max(axis=0)
        assert (extent <= np.array(width) + 1e-6).all() and (extent > 0.95 * np.array(width)).all()
    turn = jax.vmap(lambda q: quaternion.multiply(quaternion.conjugate(START.quat), q))(begun.quad.quat)
    angle = 2.0 * np.arcsin(np.linalg.norm(np.asarray(turn)[:, 1:], axis=1))
    assert 0.9 < np.rad2deg(angle.max()) / (4.0 * np.sqrt(3.0)) <= 1.001
    np.testing.assert_allclose(np.linalg.norm(begun.quad.quat, axis=1), 1.0, atol=1e-6)


def test_share_of_start_poses_and_gates():
    begun = draw(0.3)
    assert np.mean(begun.from_start) == pytest.approx(0.3, abs=0.04)
    targets = np.asarray(begun.target)[~np.asarray(begun.from_start)]
    shares = np.bincount(targets, minlength=7) / targets.size
    np.testing.assert_allclose(shares, 1.0 / 7.0, atol=0.04)


def test_an_untouched_buffer_starts_just_past_each_gate():
    begun = draw(0.0, noise=STILL)
    passed = (np.asarray(begun.target) - 1) % 7
    normal = np.asarray(TRACK.normal)[passed]
    np.testing.assert_allclose(begun.quad.vel_w, 2.0 * normal, atol=1e-6)
    np.testing.assert_allclose(
        begun.quad.pos_w, np.asarray(TRACK.gate_pos)[passed] + 0.05 * normal, atol=1e-5
    )


def test_noise_never_puts_the_drone_back_behind_its_gate():
    begun = draw(0.0)
    passed = (np.asarray(begun.target) - 1) % 7
    ahead = np.einsum(
        "nx,nx->n", np.asarray(begun.quad.pos_w - TRACK.gate_pos[passed]), np.asarray(TRACK.normal)[passed]
    )
    assert ahead.min() > 0.0


def state_number(number: int):
    """A moment that can be recognised."""
    quad = hover_state(PARAMS, jnp.array([9.5, 6.0, 2.0]), jnp.asarray(0.0))
    quad = replace(quad, vel_w=jnp.array([float(number), 0.0, 0.0]), rotor_speed=quad.rotor_speed + number)
    return Moment(quad=quad, action=jnp.full(4, 0.01 * number))


def test_the_ring_keeps_the_last_states_of_its_gate_only():
    buffer = untouched = empty_buffer(TRACK, PARAMS)
    for number in range(SLOTS + 3):
        buffer = remember(buffer, jnp.asarray(1), state_number(number), jnp.asarray(True))
        buffer = remember(buffer, jnp.asarray(5), state_number(100 + number), jnp.asarray(False))
    others = jnp.array([0, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(buffer.states[others], untouched.states[others])
    assert buffer.next_slot.tolist() == [0, 3, 0, 0, 0, 0, 0]
    speeds = np.asarray(buffer.states[1, :, 3])
    assert sorted(speeds) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]

    begun = draw(0.0, noise=STILL, buffer=buffer)
    mine = np.asarray(begun.target) == 2  # a state of gate 1 flies on to gate 2
    assert set(np.asarray(begun.quad.vel_w)[mine, 0]) == set(speeds)
    rotors = np.asarray(begun.quad.rotor_speed - START.rotor_speed[None])[mine, 0]
    np.testing.assert_allclose(rotors, np.asarray(begun.quad.vel_w)[mine, 0], atol=1e-2)
    # The action under which it passed goes on.
    np.testing.assert_allclose(begun.action[mine, 3], 0.01 * begun.quad.vel_w[mine, 0], atol=1e-6)
    untouched = begun.action[~mine]
    np.testing.assert_allclose(untouched, np.broadcast_to(HOVER, untouched.shape), atol=1e-6)


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match=r"ResetNoise\.vel is -1"):
        ResetNoise(vel=-1.0)
