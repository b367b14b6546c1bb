"""A bad observation is refused by name, and what the agent remembers stays as it was."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import s5wm
from s5wm.errors import ObservationError

RNG = np.random.default_rng(0)
OBS = RNG.uniform(-0.3, 0.3, (60, 24)).astype(np.float32)
BAD = (np.nan, np.inf, -np.inf)


@pytest.fixture(scope="module")
def agent():
    return s5wm.load("pretrained/split-s")  # S5WM: it has a memory


def fly(agent, rows):
    """Actions for good observations, and the memory after them."""
    state, actions = agent.init(), []
    for obs in rows:
        action, state = agent.act(obs, state)
        actions.append(action)
    return np.array(actions), state


@pytest.mark.parametrize("value", BAD)
def test_a_number_that_is_none_is_refused_and_forgotten(agent, value):
    expected, _ = fly(agent, OBS)
    state, actions = agent.init(), []
    for index, obs in enumerate(OBS):
        if index in (0, 10, 11):  # also as the very first one, and twice in a row
            bad = obs.copy()
            bad[7] = value
            before = jax.tree.map(np.array, state)
            with pytest.raises(ObservationError, match=rf"is {value} at index 7; .*same state at the next"):
                agent.act(bad, state)
            jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, state))
        action, state = agent.act(obs, state)
        actions.append(action)
    np.testing.assert_array_equal(actions, expected)
    assert (np.abs(expected).max(axis=1) > 0.01).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(23), r"shape \(23,\) and dtype float64 was given, \(24,\) and float32 is expected"),
        (np.zeros((1, 24)), r"pass one at a time, or N with the state of init\(N\)"),
        (np.zeros(24, np.complex64), "dtype complex64"),
        (np.array(["x"] * 24), "dtype <U1"),
        (np.full(24, None), "dtype object"),
        (np.full(24, 1e300), r"is 1e\+300 at index 0; every number must be finite in float32"),
        (np.full(24, 3e38, np.float32), r"makes the policy overflow \(its largest number is 3e\+38\)"),
    ],
)
def test_what_is_no_observation_is_refused_and_forgotten(agent, bad, message):
    _, state = fly(agent, OBS[:5])
    expected, _ = agent.act(OBS[5], state)
    with pytest.raises(ObservationError, match=message):
        agent.act(bad, state)
    np.testing.assert_array_equal(agent.act(OBS[5], state)[0], expected)


def test_many_drones_act_together_as_each_would_alone(agent):
    rows = OBS.reshape(20, 3, 24)
    alone = [fly(agent, rows[:, drone])[0] for drone in range(3)]
    state = agent.init(3)
    for t, obs in enumerate(rows):
        bad = obs.copy()
        bad[1, 4] = np.nan
        with pytest.raises(ObservationError, match="is nan at index 1, 4"):
            agent.act(bad, state)
        action, state = agent.act(obs, state)
        assert action.shape == (3, 4)
        np.testing.assert_allclose(action, [alone[drone][t] for drone in range(3)], atol=5e-4)
    again, _ = agent.act(rows[0], state, first=np.array([True, False, True]))
    np.testing.assert_allclose(again[[0, 2]], [alone[0][0], alone[2][0]], atol=5e-4)
    assert np.abs(again[1] - alone[1][0]).max() > 1e-2
    huge = rows[0].copy()
    huge[2] = 3e38
    with pytest.raises(ObservationError, match="observation 2 makes the policy overflow"):
        agent.act(huge, state)


def test_wrong_numbers_of_drones_are_refused(agent):
    state = agent.init(3)
    with pytest.raises(ValueError, match="num is 0"):
        agent.init(0)
    with pytest.raises(ObservationError, match=r"\(3, 24\) and float32 is expected"):
        agent.act(OBS[0], state)
    with pytest.raises(ValueError, match="it must be True or False or 3 of them"):
        agent.act(OBS[:3], state, first=np.zeros(2, bool))


def test_a_policy_or_a_memory_that_is_not_finite_is_named(agent):
    state = agent.init()
    broken = jax.tree.map(lambda leaf: leaf + jnp.nan, agent.policy)
    with pytest.raises(ObservationError, match="parameters that are not finite"):
        replace(agent, policy=broken).act(OBS[0], state)
    _, state = agent.act(OBS[0], state)
    lost = jax.tree.map(lambda x: x + jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
    with pytest.raises(ObservationError, match="or the state that was given is not finite"):
        agent.act(OBS[0], lost)
    np.testing.assert_array_equal(agent.act(OBS[0], lost, first=True)[0], fly(agent, OBS[:1])[0][0])


def test_pixels_come_as_bytes():
    from s5wm.experiments.trained import checked_observation

    spec = s5wm.make("race/figure-8").spec
    image = np.zeros(spec.obs_shape, np.uint8)
    assert checked_observation(image, spec) is image
    with pytest.raises(ObservationError, match="pixels as uint8 from 0 to 255"):
        checked_observation(image.astype(np.float32), spec)
