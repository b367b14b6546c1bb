"""Known answers of the memory cue, the double integrator and the chain."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.toys import ChainConfig, DoubleIntegratorConfig, DoubleIntegratorState, MemoryCueConfig
from s5wm.envs.wrappers import AutoReset

DELAY = 5
ROWS = 60


@eqx.filter_jit
def rollout(env, act, rows, keys):
    """Rows ``[N, rows]`` of the stream and the actions chosen there; ``act(obs, memory) -> action, memory``."""

    def copy(key):
        k_reset, k_steps = jr.split(key)

        def row(carry, k_step):
            state, timestep, memory = carry
            action, memory = act(timestep.obs, memory)
            return (*env.step(state, action, k_step), memory), (timestep, action)

        carry = (*env.reset(k_reset), jnp.zeros(()))
        return jax.lax.scan(row, carry, jr.split(k_steps, rows))[1]

    return jax.vmap(copy)(keys)


def remember(obs, memory):
    memory = jnp.where(obs[0] != 0, obs[0], memory)
    return (memory[None] > 0).astype(jnp.float32), memory


def hedge(obs, memory):
    return jnp.full(1, 0.5), memory


@pytest.fixture(scope="module")
def remembered():
    """64 copies of a policy that remembers."""
    return rollout(AutoReset(MemoryCueConfig(delay=DELAY).build()), remember, ROWS, jr.split(jr.key(0), 64))[
        0
    ]


@pytest.fixture(scope="module")
def forgotten():
    """256 copies of the best policy that does not remember."""
    return rollout(AutoReset(MemoryCueConfig(delay=DELAY).build()), hedge, ROWS, jr.split(jr.key(0), 256))[0]


def test_memory_cue_pays_memory_once_and_on_time(remembered):
    nominal, first, last = (
        np.asarray(x) for x in (remembered.reward.nominal, remembered.is_first, remembered.is_last)
    )
    for copy in range(64):
        starts = np.flatnonzero(first[copy])
        paid = np.flatnonzero(nominal[copy])
        np.testing.assert_array_equal(paid, [s + DELAY for s in starts if s + DELAY < ROWS])
        assert set(nominal[copy][paid]) <= {0.5, 1.5}
        ends = np.flatnonzero(last[copy])
        assert DELAY <= ends[0] <= 2 * DELAY
        assert np.all(ends[1:] - starts[1 : len(ends)] == DELAY)
    np.testing.assert_array_equal(remembered.is_terminal, last)


def test_memory_cue_pays_nothing_without_memory(forgotten):
    nominal = np.asarray(forgotten.reward.nominal)
    paid = nominal[nominal != 0]
    assert abs(paid.mean()) < 4 / np.sqrt(len(paid))


def test_memory_cue_shows_the_cue_once_and_asks_once(forgotten):
    cue, ask = np.asarray(forgotten.obs[..., 0]), np.asarray(forgotten.obs[..., 1])
    first = np.asarray(forgotten.is_first)
    assert np.all(np.abs(cue) == first)
    age = np.arange(ROWS) - np.maximum.accumulate(np.where(first, np.arange(ROWS), 0), axis=1)
    assert np.all(ask == (age == DELAY - 1))


def test_memory_cue_copies_are_out_of_phase(forgotten):
    share = np.asarray(forgotten.is_first).mean(axis=0)[2 * DELAY + 2 :]
    assert share.max() < 0.5 and share.min() > 0.02


@pytest.fixture(scope="module")
def integrator():
    return DoubleIntegratorConfig().build()


@pytest.fixture(scope="module")
def driven(integrator):
    """Rows ``[3, 256, 101]`` of the reference policy, of none, and of full force."""

    def scaled(gain, offset):
        return lambda obs, memory: (gain * integrator.env.reference_action(obs) + offset, memory)

    def drive(gain, offset):
        return rollout(AutoReset(integrator), scaled(gain, offset), 101, jr.split(jr.key(0), 256))[0]

    return jax.vmap(drive)(jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0]))


def test_double_integrator_reference_return(integrator, driven):
    reference, idle, _ = total = driven.reward.nominal.sum(axis=2)
    bound = jax.vmap(integrator.env.return_bound)(driven.obs[0, :, 0])
    assert np.all(total <= bound[None] + 1e-5)
    assert -0.75 < reference.mean() < -0.6 and reference.min() > -5
    assert idle.mean() < -20
    assert np.all(driven.is_last.sum(axis=2) == 1) and np.all(driven.is_last[..., 100])
    assert not np.any(driven.is_terminal)


def test_double_integrator_stays_between_its_walls(driven):
    pushed = driven.obs[2]
    assert np.abs(pushed[..., 0]).max() == 2 and np.all(pushed[:, 100, 1] == 0)
    assert driven.reward.nominal.min() > -1.5


def test_double_integrator_without_saturation_earns_its_riccati_bound(integrator):
    env = integrator.env
    start = DoubleIntegratorState(jnp.float32(0.05), jnp.float32(-0.03))

    def row(carry, _):
        state, obs = carry
        action = env.reference_action(obs)
        state, timestep = env.step(state, action, jr.key(0))
        return (state, timestep.obs), (timestep.reward.nominal, action)

    obs = jnp.stack([start.position, start.velocity])
    _, (reward, actions) = jax.lax.scan(row, (start, obs), length=100)
    assert np.abs(actions).max() < 1
    np.testing.assert_allclose(reward.sum(), env.return_bound(obs), rtol=1e-3)


def test_double_integrator_moves_as_newton_says(integrator):
    env = integrator.env
    state, timestep = env.reset(jr.key(3))
    for _ in range(5):
        state, timestep = env.step(state, jnp.full(1, 0.4), jr.key(0))
    start = env.reset(jr.key(3))[0]
    time = 0.5
    np.testing.assert_allclose(state.velocity, start.velocity + 0.4 * time, rtol=1e-5)
    expected = start.position + start.velocity * time + 0.4 * time**2 / 2
    np.testing.assert_allclose(state.position, expected, rtol=1e-5)
    assert env.episode_metrics(state)["distance"] == jnp.abs(timestep.obs[0])


def explained(target, guess):
    """Share of the target's variance that a line through the guess explains."""
    return np.corrcoef(target, guess)[0, 1] ** 2


@pytest.mark.parametrize("is_terminal", [True, False])
def test_chain_reward_follows_from_the_step_before_and_from_nothing_later(is_terminal):
    env = AutoReset(ChainConfig(is_terminal=is_terminal).build())
    actions = jr.uniform(jr.key(0), (400, 1), minval=-1.0, maxval=1.0)

    def row(carry, x):
        state, timestep = carry
        action, k_step = x
        return env.step(state, action, k_step), timestep

    start = env.reset(jr.key(1))
    _, rows = jax.lax.scan(row, start, (actions, jr.split(jr.key(2), 400)))
    pay = np.asarray(rows.obs @ env.env.pay)
    reward, action = np.asarray(rows.reward.nominal), np.asarray(actions[:, 0])
    inner = ~np.asarray(rows.is_first)[1:]
    right = (pay * action)[:-1][inner]
    np.testing.assert_allclose(reward[1:][inner], right, atol=1e-6)
    for shifted in ((pay * action)[1:], (pay[:-1] * action[1:]), (pay[1:] * action[:-1])):
        assert explained(reward[1:][inner], shifted[inner]) < 0.9
    assert explained(reward[1:][inner], (pay[:-1] * action[1:])[inner]) < 0.1
    assert np.any(rows.is_last)
    np.testing.assert_array_equal(rows.is_terminal, rows.is_last & is_terminal)


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (MemoryCueConfig, {"delay": 0}),
        (DoubleIntegratorConfig, {"ctrl_dt": 0.0}),
        (DoubleIntegratorConfig, {"start": 3.0}),
        (ChainConfig, {"places": 2}),
    ],
)
def test_impossible_configurations_are_named(config, fields):
    (name,) = fields
    with pytest.raises(ValueError, match=name):
        config(**fields)
