"""Observations and rewards on poses computed by hand."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.envs.quadrotor import quaternion
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.observation import (
    View,
    observe,
    observe_a,
    observe_b,
    observe_c,
    privileged,
    privileged_size,
    target_from,
)
from s5wm.envs.racing.reward import Arrival, RewardConfig, nominal_reward, racing_reward
from s5wm.envs.racing.track import SplitSConfig

TRACK = SplitSConfig().build()
ROOT = np.sqrt(0.5)


def view(target: int) -> View:
    """At (1, 2, 3), nose along world y (a quarter turn about z), everything else distinct."""
    quad = QuadState(
        pos_w=jnp.array([1.0, 2.0, 3.0]),
        vel_w=jnp.array([3.0, -6.0, 1.5]),
        quat=jnp.array([ROOT, 0.0, 0.0, ROOT]),
        omega_b=jnp.array([1.0, 2.0, -3.0]),
        rotor_speed=jnp.array([280.0, 1400.0, 2800.0, 700.0]),
    )
    return View(
        quad=quad,
        target=jnp.asarray(target),
        action=jnp.array([0.1, -0.2, 0.3, 0.4]),
        clearance=jnp.array(0.5),
    )


def test_layout_b():
    np.testing.assert_allclose(
        observe_b(TRACK, view(1)),
        [
            *(0.1, 0.2, 0.3),  # p / 10
            *(0.2, -0.4, 0.1),  # v / 15
            *(0.0, 1.0, 0.0),  # the nose points along world y
            *(-1.0, 0.0, 0.0),  # left is -x
            *(0.1, 0.2, -0.3),  # w / 10
            *(0.8, 0.445, -0.195),  # (9, 6.45, 1.05) - p, over 10
            *(-0.015, -1.025, 0.0),  # (8.85, -3.80, 1.05) - (9, 6.45, 1.05), over 10
            *(1.0, 0.0, 0.0),  # the gate faces x
        ],
        atol=1e-6,
    )


def test_after_the_last_gate_comes_the_first():
    obs = observe_b(TRACK, view(6))
    np.testing.assert_allclose(obs[18:21], (TRACK.gate_pos[0] - TRACK.gate_pos[6]) / 10.0, atol=1e-6)


def test_layout_c():
    """The nose points along world y: forward is y, left is -x."""
    phase = 2 * np.pi / 7
    np.testing.assert_allclose(
        observe_c(TRACK, view(1)),
        [
            *(-0.4, -0.2, 0.1),  # v / 15 = (3, -6, 1.5) / 15
            *(0.0, 0.0, 1.0),  # up
            *(0.1, 0.2, -0.3),  # w / 10
            *(0.445, -0.8, -0.195),  # (9, 6.45, 1.05) - p, over 10
            *(0.0, -1.0, 0.0),  # the gate faces world x
            *(-0.58, -0.785, -0.195),  # (8.85, -3.80, 1.05) - p, over 10
            *(np.sin(np.radians(-130)), -np.cos(np.radians(-130)), 0.0),  # the one after faces -130 degrees
            *np.tanh([-8.0, -4.45 / 0.5, 1.95 / 0.5]),  # in the frame of the gate, over 1 m and the clearance
            *(np.tanh(1.5), np.cos(phase), np.sin(phase)),
        ],
        atol=1e-6,
    )


def test_layout_c_sees_no_difference_between_headings():
    """A world turned about the vertical looks the same from the body; the number of the gate apart, so do its gates."""
    obs = np.asarray(observe("C", TRACK, view(2)))
    turn = quaternion.exp(jnp.array([0.0, 0.0, 0.7]))
    matrix = quaternion.to_matrix(turn)
    turned = view(2)
    quad = eqx.tree_at(
        lambda q: (q.pos_w, q.vel_w, q.quat),
        turned.quad,
        (matrix @ turned.quad.pos_w, matrix @ turned.quad.vel_w, quaternion.multiply(turn, turned.quad.quat)),
    )
    track = eqx.tree_at(
        lambda t: (t.gate_pos, t.gate_yaw), TRACK, (TRACK.gate_pos @ matrix.T, TRACK.gate_yaw + 0.7)
    )
    moved = observe(
        "C", track, View(quad=quad, target=turned.target, action=turned.action, clearance=turned.clearance)
    )
    np.testing.assert_allclose(moved, obs, atol=1e-6)


def test_layout_a():
    obs = np.asarray(observe_a(TRACK, view(1)))
    np.testing.assert_allclose(obs[:3], [0.2, -0.4, 0.1], atol=1e-6)
    np.testing.assert_allclose(obs[3:12], [0, -1, 0, 1, 0, 0, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(obs[12:15], [0.8, 0.52, -0.12], atol=1e-6)  # upper left
    np.testing.assert_allclose(obs[15:18], [0.8, 0.37, -0.12], atol=1e-6)  # upper right
    np.testing.assert_allclose(obs[18:21], [0.8, 0.37, -0.27], atol=1e-6)  # lower right
    np.testing.assert_allclose(obs[21:24], [0.8, 0.52, -0.27], atol=1e-6)  # lower left


@pytest.mark.parametrize(("layout", "start"), [("B", 24), ("C", 27)])
def test_privileged(layout, start):
    got = privileged(layout, TRACK, view(6), QuadConfig().build().rotor_speed_max)
    np.testing.assert_allclose(got[:start], observe(layout, TRACK, view(6)), rtol=1e-6)
    np.testing.assert_allclose(got[start : start + 4], [0.1, 0.5, 1.0, 0.25], atol=1e-6)
    np.testing.assert_allclose(got[start + 4 : start + 8], [0.1, -0.2, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(got[start + 8 :], np.eye(8)[6])
    assert target_from(layout) == start + 8
    assert got.shape == (privileged_size(layout, TRACK),)


def arrival(**changes) -> Arrival:
    fields = {
        "progress": 0.0,
        "passed": False,
        "miss": 0.0,
        "rate_xy": [0.0, 0.0],
        "speed": 0.0,
        "off_axis": 0.0,
        "crashed": False,
    }
    return Arrival(**{name: jnp.asarray(value) for name, value in (fields | changes).items()})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.0),
        ({"progress": 0.3}, 0.3),
        ({"passed": True, "miss": 0.25}, 0.75),
        ({"miss": 0.25}, 0.0),
        ({"rate_xy": [0.6, 0.8]}, -0.005),
        ({"crashed": True, "speed": 10.0}, -5.0),
        ({"progress": 0.2, "crashed": True, "speed": 5.0}, 0.2 - 4.5),
    ],
)
def test_terms_of_the_nominal_reward(changes, expected):
    assert float(nominal_reward(RewardConfig(), arrival(**changes))) == pytest.approx(expected, abs=1e-6)


def test_looking_away_costs_where_it_is_asked_to():
    away = arrival(off_axis=1.5)
    assert float(nominal_reward(RewardConfig(), away)) == 0.0
    assert float(nominal_reward(RewardConfig(view=0.1), away)) == pytest.approx(-0.15)


def test_smoothing_is_apart_from_the_task():
    action, previous = jnp.array([0.5, 0.1, -0.2, 0.3]), jnp.array([0.0, 0.1, 0.3, 0.3])
    reward = racing_reward(RewardConfig(), arrival(progress=0.3), action, previous)
    assert float(reward.nominal) == pytest.approx(0.3)
    assert float(reward.smoothing) == pytest.approx(-0.02 * 0.5 - 0.01 * 0.14, abs=1e-7)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match=r"RewardConfig\.crash is -1"):
        RewardConfig(crash=-1.0)
