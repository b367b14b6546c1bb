"""One stream of episodes: where rows, actions, rewards and flags stand after ``AutoReset`` and ``TimeLimit``."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array, Float

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.envs.probes import ActionReward, ConstantReward, DelayedReward, ObsActionReward, ObsReward
from s5wm.envs.toys import Chain, ChainConfig, DoubleIntegratorConfig, MemoryCueConfig
from s5wm.envs.wrappers import AutoReset, TimeLimit
from s5wm.types import Key, Metrics, Reward, TimeStep

PLACES = 5
ROWS = 16
ENVS: dict[str, AbstractEnv[Any]] = {
    "constant": ConstantReward(),
    "obs": ObsReward(),
    "delayed": DelayedReward(),
    "action": ActionReward(),
    "obs-action": ObsActionReward(),
    "memory": MemoryCueConfig(delay=3).build(),
    "double-integrator": DoubleIntegratorConfig(steps=3).build(),
    "chain": ChainConfig(places=PLACES).build(),
}


@eqx.filter_jit
def stream(env: AbstractEnv[Any], actions: Array, key: Key) -> tuple[Any, TimeStep]:
    """The rows at which ``actions`` are chosen."""
    k_reset, k_steps = jr.split(key)

    def row(carry, x):
        state, timestep = carry
        action, k_step = x
        return env.step(state, action, k_step), timestep

    (state, _), rows = jax.lax.scan(row, env.reset(k_reset), (actions, jr.split(k_steps, len(actions))))
    return state, rows


def chain_by_hand(actions, *, is_terminal):
    """The same stream in plain Python, straight from the diagram of ``s5wm.types``."""
    pay = [(-1.0) ** i * (i + 1) / PLACES for i in range(PLACES)]
    rows, place, reward, is_first = [], 0, 0.0, True
    for action in actions:
        is_last = place == PLACES - 1
        rows.append((place, reward, is_first, is_last, is_last and is_terminal))
        if is_last:
            place, reward, is_first = 0, 0.0, True
        else:
            push = min(max(action, -1.0), 1.0)
            reward, is_first = pay[place] * push, False
            place = min(place + (2 if push >= 0 else 1), PLACES - 1)
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("is_terminal", [True, False])
@given(actions=st.lists(st.floats(-2, 2, width=32, allow_subnormal=False), min_size=ROWS, max_size=ROWS))
def test_stream_is_that_of_the_diagram(is_terminal, actions):
    env = AutoReset(ChainConfig(places=PLACES, is_terminal=is_terminal).build())
    _, rows = stream(env, jnp.asarray(actions, jnp.float32)[:, None], jr.key(0))
    place, reward, is_first, is_last, terminal = chain_by_hand(actions, is_terminal=is_terminal)
    np.testing.assert_array_equal(rows.obs.argmax(-1), place)
    np.testing.assert_allclose(rows.reward.nominal, reward, atol=1e-6)
    np.testing.assert_array_equal(rows.is_first, is_first)
    np.testing.assert_array_equal(rows.is_last, is_last)
    np.testing.assert_array_equal(rows.is_terminal, terminal)


def test_final_observation_has_its_row_and_the_action_there_is_ignored():
    env = AutoReset(ChainConfig(places=PLACES).build())
    actions = jnp.full((ROWS, 1), -0.5)
    _, rows = stream(env, actions, jr.key(0))
    last = np.flatnonzero(rows.is_last)
    assert list(last) == [4, 9, 14]
    assert np.all(rows.obs[last].argmax(-1) == PLACES - 1)
    assert np.all(rows.is_first[last[:-1] + 1]) and np.all(rows.reward.nominal[last[:-1] + 1] == 0)
    _, others = stream(env, actions.at[last].set(0.9), jr.key(0))
    assert eqx.tree_equal(rows, others)
    _, others = stream(env, actions.at[last - 1].set(0.9), jr.key(0))
    assert not eqx.tree_equal(rows, others)


def test_time_limit_truncates_and_leaves_termination_alone():
    actions = jnp.full((9, 1), -0.5)  # the chain ends by itself at its fourth step
    for steps, lasts, terminals in ((3, [3, 7], []), (4, [4], [4]), (9, [4], [4])):
        env = AutoReset(TimeLimit(ChainConfig(places=PLACES).build(), steps))
        _, rows = stream(env, actions, jr.key(0))
        assert list(np.flatnonzero(rows.is_last)) == lasts
        assert list(np.flatnonzero(rows.is_terminal)) == terminals


def test_time_limit_refuses_zero_steps():
    with pytest.raises(ValueError, match="steps is 0"):
        TimeLimit(ConstantReward(), 0)


class CounterState(eqx.Module):
    episodes: Array
    steps: Array


class Counter(AbstractEnv[CounterState]):
    """Two-step episodes that count themselves; ``reset`` forgets, ``restart`` must not.  Weakly typed."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            (1,), np.dtype(np.float32), privileged_size=1, action=Box((1,)), ctrl_dt=1.0, has_smoothing=True
        )

    def reset(self, key: Key) -> tuple[CounterState, TimeStep]:
        return self._show(CounterState(jnp.asarray(0.0), jnp.asarray(0)))

    def restart(self, state: CounterState, key: Key) -> tuple[CounterState, TimeStep]:
        return self._show(CounterState(state.episodes + 1, jnp.asarray(0)))

    def step(
        self, state: CounterState, action: Float[Array, " A"], key: Key
    ) -> tuple[CounterState, TimeStep]:
        return self._show(CounterState(state.episodes, state.steps + 1))

    def episode_metrics(self, state: CounterState) -> Metrics:
        return {"episodes": state.episodes}

    def _show(self, state: CounterState) -> tuple[CounterState, TimeStep]:
        obs = state.episodes[None]
        zero = jnp.asarray(0.0)
        is_last = state.steps >= 2
        return state, TimeStep(obs, obs, Reward(zero, zero), state.steps == 0, is_last, is_last)


def test_restart_keeps_what_outlives_episodes_and_reset_does_not():
    env = AutoReset(Counter())
    state, rows = stream(env, jnp.zeros((9, 1)), jr.key(0))
    np.testing.assert_array_equal(rows.obs[:, 0], [0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert env.episode_metrics(state)["episodes"] == 3
    state, timestep = env.restart(state, jr.key(1))
    assert timestep.obs[0] == 4 and timestep.is_first
    assert env.reset(jr.key(1))[1].obs[0] == 0


def avals(tree):
    return [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    "env", [AutoReset(env) for env in (Counter(), TimeLimit(Counter(), 2), *ENVS.values())]
)
def test_state_is_a_fixed_point_without_weak_types(env):
    key, action = jr.key(0), jnp.zeros(env.spec.action_size)
    begun = jax.eval_shape(env.reset, key)
    stepped = jax.eval_shape(env.step, begun[0], action, key)
    restarted = jax.eval_shape(env.restart, begun[0], key)
    assert avals(begun) == avals(stepped) == avals(restarted)
    assert not any(weak for _, _, weak in avals(begun))


def test_a_restart_unlike_a_step_is_named():
    class Torn(Counter):
        def restart(self, state: CounterState, key: Key) -> tuple[CounterState, TimeStep]:
            return self._show(CounterState(state.episodes + 1, jnp.asarray(0.0)))

    env = AutoReset(Torn())
    state, _ = env.reset(jr.key(0))
    with pytest.raises(TypeError, match=r"\.steps"):
        env.step(state, jnp.zeros(1), jr.key(1))


@pytest.mark.parametrize("name", ENVS)
def test_time_steps_match_the_spec_and_no_key_is_used_twice(name):
    env = ENVS[name]
    auto = AutoReset(env)
    with jax.debug_key_reuse(True):
        state, first = eqx.filter_jit(auto.reset)(jr.key(0))
        _, second = eqx.filter_jit(auto.step)(state, jnp.zeros(env.spec.action_size), jr.key(1))
    for timestep in (first, second):
        assert timestep.obs.shape == env.spec.obs_shape and timestep.obs.dtype == env.spec.obs_dtype
        assert timestep.privileged.shape == (env.spec.privileged_size,)
    assert first.is_first and not first.is_last and first.reward.nominal == 0
    assert not second.is_first


def test_chain_constants_are_arrays():
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(ENVS))
    assert isinstance(ENVS["chain"], Chain)
