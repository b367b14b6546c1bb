"""What a gradient step leaves behind: evidence where it was skipped, the average that acts."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.dreamer.agent import Dreamer, DreamerConfig, DreamerLearner, latest_policy
from s5wm.envs.toys import DoubleIntegratorConfig

from ...tiny import S5WM


def built(config: DreamerConfig) -> Dreamer:
    return config.build(DoubleIntegratorConfig().build().spec, num_envs=8)


RATE = 0.25


@cache
def stepped(delay: int) -> tuple[Dreamer, DreamerLearner, Callable[..., DreamerLearner]]:
    """An agent whose average begins after so many updates, a learner with a full replay, a step compiled once."""
    agent = built(replace(S5WM, ema_rate=RATE, ema_start=delay))
    learner = jax.jit(agent.init)(jr.key(0))
    learner = eqx.tree_at(lambda x: x.replay.filled, learner, jnp.asarray(32, jnp.int32))
    return agent, learner, jax.jit(lambda learner, key: agent.gradient_step(learner, jnp.zeros(()), key)[0])


@pytest.mark.slow
def test_the_batch_of_a_skipped_step_is_the_evidence() -> None:
    agent, learner, step = stepped(2)
    assert agent.debug_state(learner) is None

    row = (3, 17)  # of environment 3
    poisoned = learner.replay.rows.timestep.obs.at[row].set(jnp.nan)
    learner = eqx.tree_at(lambda x: x.replay.rows.timestep.obs, learner, poisoned)
    for i in range(120):
        key = jr.fold_in(jr.key(1), i)
        after = step(learner, key)
        skipped = int(after.guard.skipped) > int(learner.guard.skipped)
        windows, _ = agent.sample(learner.replay, jr.split(key)[0])
        offset = (row[1] - np.asarray(windows.start)) % 32
        hit = (np.asarray(windows.env) == row[0]) & (offset <= S5WM.replay.length)
        assert skipped == bool(hit.any())
        if skipped:
            suspect, updates, rows = agent.debug_state(after)
            jax.tree.map(np.testing.assert_array_equal, suspect.windows, windows)
            assert int(suspect.update) == int(updates) - 1 == i
            assert np.isnan(rows.timestep.obs).any(axis=(1, 2)).tolist() == hit.tolist()
            jax.tree.map(np.testing.assert_array_equal, after.params, learner.params)
        learner = after
    assert int(learner.guard.skipped) > 0


@pytest.mark.slow
@pytest.mark.parametrize("delay", [pytest.param(0, marks=pytest.mark.faults), 2])
def test_the_average_acts(delay: int) -> None:
    """The latest parameters, then the plain mean of the first ones since, then one that forgets at the rate given."""
    agent, learner, step = stepped(delay)
    assert jax.tree.structure(agent.policy(learner)) == jax.tree.structure(latest_policy(learner.params))
    latest, expected = [], None
    for i in range(7):
        learner = step(learner, jr.fold_in(jr.key(1), i))
        if i <= delay:
            latest = []
        latest.append(jax.tree.map(np.asarray, latest_policy(learner.params)))
        if i < delay + 4:
            expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *latest)
        else:
            expected = jax.tree.map(lambda m, p: m + RATE * (p - m), expected, latest[-1])
        # Updates of the warm-up are small, and so is the tolerance.
        jax.tree.map(
            lambda m, e: np.testing.assert_allclose(m, e, rtol=1e-6, atol=1e-9),
            agent.policy(learner),
            expected,
        )
    moved = jax.tree.map(lambda m, p: np.abs(m - p).max(), agent.policy(learner), latest[-1])
    assert max(jax.tree.leaves(moved)) > 1e-7


@pytest.mark.slow
def test_before_actor_and_critic_learn_they_cannot_stop_the_world_model() -> None:
    agent = built(replace(S5WM, actor_critic_warmup=5))
    learner = jax.jit(agent.init)(jr.key(0))
    learner = eqx.tree_at(lambda x: x.replay.filled, learner, jnp.asarray(32, jnp.int32))
    broken = eqx.tree_at(
        lambda x: x.params.critic.network.out.bias, learner, replace_fn=lambda b: b + jnp.inf
    )
    step = jax.jit(lambda learner: agent.gradient_step(learner, jnp.zeros(()), jr.key(1))[0])
    after = step(broken)
    assert int(after.guard.skipped) == 0
    before, learned = (jax.tree.leaves(x.params.world_model) for x in (broken, after))
    assert any(bool(jnp.any(a != b)) for a, b in zip(before, learned, strict=True))
    jax.tree.map(np.testing.assert_array_equal, after.params.actor, broken.params.actor)
    late = step(eqx.tree_at(lambda x: x.updates, broken, jnp.asarray(5, jnp.int32)))
    assert int(late.guard.skipped) == 1


def test_without_a_rate_the_latest_parameters_act() -> None:
    agent = built(S5WM)
    learner = jax.jit(agent.init)(jr.key(0))
    assert learner.policy_ema is None
    jax.tree.map(np.testing.assert_array_equal, agent.policy(learner), latest_policy(learner.params))


def test_a_delay_that_is_none() -> None:
    with pytest.raises(ValueError, match="ema_start is -1; it is a number of updates"):
        replace(S5WM, ema_start=-1)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"ema_rate is {rate}; it must lie in \(0, 1\]"):
        replace(S5WM, ema_rate=rate)
