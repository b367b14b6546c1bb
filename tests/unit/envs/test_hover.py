"""Hover: the small task of the same quadrotor."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.hover import HoverConfig
from s5wm.envs.quadrotor.state import hover_state

ENV = HoverConfig().build()
reset = jax.jit(lambda key: ENV.reset(key))
step = jax.jit(lambda state, action: ENV.step(state, action, jr.key(0)))


def changed(tree, **fields):
    """A copy of a module with some fields replaced."""
    return type(tree)(**{**{name: getattr(tree, name) for name in tree.__dataclass_fields__}, **fields})


def at(*pos):
    state, _ = reset(jr.key(0))
    return changed(state, quad=hover_state(ENV.params, jnp.array(pos), jnp.asarray(0.0)))


def test_resting_at_the_target_pays_one_per_step():
    state = at(0.0, 0.0, 0.0)
    timestep = None
    for _ in range(5):
        state, timestep = step(state, state.action)
    assert float(timestep.reward.nominal) == pytest.approx(1.0, abs=1e-3)
    assert float(timestep.reward.smoothing) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(timestep.obs, [*[0] * 6, 1, 0, 0, 0, 1, 0, 0, 0, 0], atol=1e-4)


def test_observation_scales():
    _, timestep = step(at(1.5, -0.6, 0.3), at(0.0, 0.0, 0.0).action)
    np.testing.assert_allclose(timestep.obs[:3], [0.5, -0.2, 0.1], atol=1e-4)
    assert timestep.privileged.shape == (ENV.spec.privileged_size,)


def test_out_of_reach_is_terminal():
    state, timestep = step(at(3.01, 0.0, 0.0), jnp.zeros(4))
    assert bool(timestep.is_last) and bool(timestep.is_terminal)
    assert float(timestep.reward.nominal) < -4.5
    assert float(ENV.episode_metrics(state)["crash"]) == 1.0


def test_time_truncates():
    state = changed(at(0.0, 0.0, 0.0), steps=jnp.asarray(198, jnp.int32))
    state, timestep = step(state, state.action)
    assert not bool(timestep.is_last)
    state, timestep = step(state, state.action)
    assert bool(timestep.is_last) and not bool(timestep.is_terminal)


def test_a_non_finite_action_ends_finite():
    _, timestep = step(at(0.0, 0.0, 0.0), jnp.array([jnp.nan, 0.0, 0.0, jnp.inf]))
    assert bool(timestep.is_terminal)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(timestep))


def test_first_states_are_spread_and_in_reach():
    states, timesteps = jax.jit(jax.vmap(lambda key: ENV.reset(key)))(jr.split(jr.key(0), 500))
    extent = np.abs(np.asarray(states.quad.pos_w)).max(axis=0)
    assert (extent > 0.95).all() and (extent <= 1.0).all()
    assert bool(jnp.all(timesteps.is_first)) and not bool(jnp.any(timesteps.is_last))


def test_states_are_fixed_points():
    first = reset(jr.key(0))
    second = step(first[0], jnp.zeros(4))
    assert [x.aval for x in jax.tree.leaves(first)] == [x.aval for x in jax.tree.leaves(second)]


def test_a_start_out_of_reach_is_refused():
    with pytest.raises(ValueError, match=r"HoverConfig\.pos"):
        HoverConfig(pos=2.0)
