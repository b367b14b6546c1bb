"""Each probe's documented value and best action, by playing it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.probes import (
    AbstractProbe,
    ActionReward,
    ConstantReward,
    DelayedReward,
    ObsActionReward,
    ObsReward,
)

PROBES = [ConstantReward(), ObsReward(), DelayedReward(), ActionReward(), ObsActionReward()]
DISCOUNT = 0.9
KEYS = jr.split(jr.key(0), 8)


def play(probe: AbstractProbe, key, weight, offset=0.0):
    """Observations, flags and discounted returns of one episode of the best action plus ``offset``."""
    state, timestep = probe.reset(key)
    rows, rewards = [timestep], []
    for _ in range(probe.length):
        action = probe.optimal_action(rows[-1].obs, weight) + offset
        state, timestep = probe.step(state, action, key)
        rows.append(timestep)
        rewards.append(timestep.reward.total(jnp.float32(weight)))
    returns = [sum(DISCOUNT**k * reward for k, reward in enumerate(rewards[t:])) for t in range(probe.length)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *rows)
    return stacked, jnp.stack(returns)


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: type(p).__name__)
def test_value_is_the_return_of_the_best_action(probe, weight):
    rows, returns = jax.vmap(lambda key: play(probe, key, weight))(KEYS)
    values = jax.vmap(jax.vmap(lambda obs: probe.value(obs, DISCOUNT, weight)))(rows.obs[:, :-1])
    np.testing.assert_allclose(returns, values, atol=1e-6)
    assert np.all(rows.is_last[:, -1]) and np.all(rows.is_terminal == rows.is_last)
    assert not np.any(rows.is_last[:, :-1])
    np.testing.assert_array_equal(rows.privileged, rows.obs)


def test_values_are_the_documented_numbers():
    zero = jnp.zeros(1)
    assert ConstantReward().value(zero, DISCOUNT) == 1
    assert ObsReward().value(zero - 1, DISCOUNT) == -1
    assert DelayedReward().value(zero, DISCOUNT) == jnp.float32(0.9)
    assert DelayedReward().value(zero + 1, DISCOUNT) == 1
    assert ActionReward().value(zero, DISCOUNT) == 1 and ActionReward().optimal_action(zero) == 0.5
    assert ActionReward().value(zero, DISCOUNT, 1.0) == 0.875
    assert ActionReward().optimal_action(zero, 1.0) == 0.25
    assert ObsActionReward().value(zero + 0.3, DISCOUNT) == 0


@pytest.mark.parametrize("offset", [-0.1, 0.1])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("probe", [ActionReward(), ObsActionReward()], ids=lambda p: type(p).__name__)
def test_any_other_action_earns_less(probe, weight, offset):
    _, best = jax.vmap(lambda key: play(probe, key, weight))(KEYS)
    _, other = jax.vmap(lambda key: play(probe, key, weight, offset))(KEYS)
    assert np.all(other < best - 1e-3)


def test_only_action_reward_pays_smoothing_and_actions_are_clipped():
    for probe in PROBES:
        state, _ = probe.reset(jr.key(1))
        state, timestep = probe.step(state, jnp.full(1, 5.0), jr.key(2))
        assert timestep.reward.smoothing == (-1.0 if isinstance(probe, ActionReward) else 0.0)


def test_draws_cover_what_they_should():
    keys = jr.split(jr.key(5), 256)
    signs = jax.vmap(lambda key: ObsReward().reset(key)[1].obs[0])(keys)
    assert set(np.asarray(signs).tolist()) == {-1.0, 1.0} and abs(signs.mean()) < 0.3
    targets = jax.vmap(lambda key: ObsActionReward().reset(key)[1].obs[0])(keys)
    assert targets.min() < -0.7 and targets.max() > 0.7 and abs(targets).max() <= 0.8
