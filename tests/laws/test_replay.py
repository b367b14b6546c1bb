"""Laws of replay: rows, windows, stored beliefs, and what a model can learn from them (property test 22)."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.dreamer.policy import DreamerPolicy
from s5wm.agents.dreamer.stored import StoredLatent, fresh_latents, stored_latents, to_chunk
from s5wm.agents.replay import Replay, ReplayConfig, Windows
from s5wm.envs.toys import ChainConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.nn.s5 import S5Config
from s5wm.training.loop import unroll
from s5wm.training.state import init_actor
from s5wm.types import Reward, TimeStep, Transition
from s5wm.worldmodel.chunk import Chunk, Context
from s5wm.worldmodel.config import BinsConfig, WorldModelConfig
from s5wm.worldmodel.latent import CategoricalConfig

ENVS, CAPACITY, LENGTH = 3, 12, 4


def numbered(start, length):
    """Rows of all environments whose observation is their number in time, whose action tells the environment."""
    time = jnp.broadcast_to(jnp.arange(start, start + length, dtype=jnp.float32), (ENVS, length))
    env = jnp.broadcast_to(jnp.arange(ENVS, dtype=jnp.float32)[:, None], (ENVS, length))
    no = jnp.zeros((ENVS, length), bool)
    timestep = TimeStep(time[..., None], time[..., None], Reward(time, -time), no, no, no)
    return Transition(
        timestep, env[..., None], StoredLatent(100 * env[..., None] + time[..., None], time[..., None])
    )


def filled(rows):
    replay = Replay.init(jax.tree.map(lambda x: x[0, 0], numbered(0, 1)), ENVS, CAPACITY)
    for start in range(0, rows, LENGTH):
        replay = replay.add(numbered(start, LENGTH))
    return replay


@pytest.mark.parametrize("rows", [4, 8, 12, 16, 20, 28])
def test_windows_are_consecutive_rows_of_one_environment_and_never_cross_the_write_head(rows):
    length = 4
    replay = filled(rows)
    windows = replay.draw(jr.key(rows), batch=400, length=length)
    sample = replay.read(windows, length=length)
    time, env = np.asarray(sample.timestep.obs[..., 0]), np.asarray(sample.action[..., 0])
    np.testing.assert_array_equal(np.diff(time, axis=1), 1.0)
    np.testing.assert_array_equal(env, np.broadcast_to(np.asarray(windows.env)[:, None], env.shape))
    np.testing.assert_array_equal(sample.extras.memory[..., 0], 100 * env + time)
    np.testing.assert_array_equal(sample.timestep.reward.smoothing, -time)
    # Every place that fits is drawn: from the oldest row kept to the newest one.
    oldest = max(0, rows - CAPACITY)
    assert sorted(set(time[:, 0])) == list(range(oldest, rows - length + 1))
    assert set(env[:, 0]) == set(range(ENVS))


def test_beliefs_are_written_back_to_the_rows_they_came_from():
    replay = filled(20)
    windows = replay.draw(jr.key(0), batch=5, length=6)
    sample = replay.read(windows, length=6)
    marked = jax.tree.map(lambda x: x + 1000.0, sample.extras)
    written = replay.write_back(windows, marked, at=stored_latents)
    touched = {
        (int(e), t)
        for e, row in zip(windows.env, sample.timestep.obs[..., 0], strict=True)
        for t in row.tolist()
    }
    before, after = replay.rows.extras.stoch[..., 0], written.rows.extras.stoch[..., 0]
    changed = {
        (int(e), float(replay.rows.timestep.obs[e, i, 0]))
        for e, i in zip(*np.nonzero(before != after), strict=True)
    }
    assert changed == touched
    np.testing.assert_array_equal(np.where(before != after, after - 1000.0, after), before)
    jax.tree.map(np.testing.assert_array_equal, written.rows.timestep, replay.rows.timestep)


def test_a_window_that_wraps_is_written_back_to_both_ends_of_the_ring():
    replay = filled(20)  # the head is at 8, row 8 of time sits there
    entries = StoredLatent(jnp.full((1, 6, 1), -1.0), jnp.full((1, 6, 1), -1.0))
    written = replay.write_back(Windows(jnp.array([1]), jnp.array([9])), entries, at=stored_latents)
    rows = np.nonzero(written.rows.extras.stoch[1, :, 0] == -1.0)[0]
    np.testing.assert_array_equal(rows, [0, 1, 2, 9, 10, 11])


def test_a_rollout_that_does_not_divide_the_capacity_is_refused():
    with pytest.raises(ValueError, match="5 steps does not divide the replay's 12 time steps"):
        filled(4).add(numbered(4, 5))


CHAIN = AutoReset(ChainConfig(places=6).build())
AGENT = DreamerConfig(
    world_model=WorldModelConfig(
        core=S5Config(width=16, state_size=8, block_size=4, layers=1, dt_min=0.1, dt_max=1.0),
        latent=CategoricalConfig(groups=2, classes=6),
        units=16,
        encoder_layers=1,
        prior_layers=1,
        decoder_layers=1,
        reward_layers=2,
        symlog_inputs=False,
        bins=BinsConfig(count=41, limit=1.0),
    ),
    replay=ReplayConfig(capacity=48, batch=8, length=12),
).build(CHAIN.spec, num_envs=4)


class Greedy(AbstractPolicy):
    """Modes instead of samples, so that acting can be repeated exactly."""

    policy: DreamerPolicy

    def initial(self):
        return self.policy.initial()

    def __call__(self, carry, obs, is_first, *, key):
        return self.policy(carry, obs, is_first, key=None)


@pytest.fixture(scope="module")
def learner():
    """An agent whose modes differ from place to place."""
    learner = AGENT.init(jr.key(0))
    return eqx.tree_at(lambda x: x.params.actor.network.out.weight, learner, replace_fn=lambda w: 300.0 * w)


@eqx.filter_jit
def fill(learner, policy, rollouts, key):
    """Replay after several rollouts of 16 steps, and the stream itself ``[N, T, ...]``."""
    k_actor, *k_rollouts = jr.split(key, rollouts + 1)
    actor = init_actor(CHAIN, policy, AGENT.num_envs, key=k_actor)
    replay, stream = learner.replay, []
    for k_rollout in k_rollouts:
        actor, rollout, _ = unroll(CHAIN, policy, actor, length=16, key=k_rollout)
        replay = replay.add(rollout)
        stream.append(rollout)
    return replay, jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *stream)


@pytest.fixture(scope="module")
def stream(learner):
    return fill(learner, Greedy(AGENT.policy(learner)), 3, jr.key(1))


@eqx.filter_jit
def posterior(learner, chunk):
    model = learner.params.world_model
    return jax.vmap(lambda c: model.observe(c, noise=None).belief)(chunk)


def close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected)


def test_acting_stores_what_one_unbroken_training_pass_would_compute(learner, stream):
    """Over three rollouts, with episodes ending inside them."""
    _, rows = stream
    assert np.asarray(rows.timestep.is_first).sum() > 2 * AGENT.num_envs
    assert np.asarray(rows.action).std() > 0.1
    initial = learner.params.world_model.dynamics.initial()
    before = Context(initial, jnp.zeros(rows.timestep.privileged.shape[-1]), jnp.zeros(1))
    context = jax.tree.map(lambda x: jnp.broadcast_to(x, (AGENT.num_envs, *x.shape)), before)
    belief = posterior(learner, Chunk(context, rows.timestep, rows.action))
    close(StoredLatent(belief.memory, belief.latent.stoch), rows.extras)


def test_a_window_with_context_repeats_the_unbroken_pass(learner, stream):
    """Nothing is fresher than what was stored, so writing back changes nothing: rows, context and actions line up."""
    replay, _ = stream
    windows = replay.draw(jr.key(2), batch=16, length=13)
    rows = replay.read(windows, length=13)
    belief = posterior(learner, to_chunk(rows))
    fresh = fresh_latents(rows, belief)
    close(fresh, rows.extras)
    close(replay.write_back(windows, fresh, at=stored_latents).rows.extras, replay.rows.extras)
    # The rows tell neighbours apart, so a shift by one would show.
    assert np.abs(np.diff(rows.extras.memory, axis=1)).max(axis=(2, 3, 4)).min() > 1e-3


def test_the_context_is_the_row_before():
    replay = filled(16)
    chunk = to_chunk(replay.read(replay.draw(jr.key(0), batch=16, length=5), length=5))
    before = chunk.timestep.obs[:, 0] - 1.0
    for told in (chunk.context.privileged, chunk.context.belief.latent.stoch):
        np.testing.assert_array_equal(told, before)


@pytest.mark.parametrize("part", ["memory", "stoch", "action"])
def test_every_part_of_the_context_is_used(learner, stream, part):
    replay, _ = stream
    rows = replay.read(replay.draw(jr.key(2), batch=16, length=13), length=13)
    inside = ~np.asarray(rows.timestep.is_first[:, 1])  # a reset right after the context ignores it
    if part == "action":
        moved = replace(rows, action=rows.action.at[:, 0].set(-rows.action[:, 0]))
    else:
        at = lambda r: getattr(r.extras, part)  # noqa: E731
        moved = eqx.tree_at(at, rows, replace_fn=lambda x: x.at[:, 0].add(1.0))
    first = np.asarray(posterior(learner, to_chunk(rows)).memory[:, 0])
    other = np.asarray(posterior(learner, to_chunk(moved)).memory[:, 0])
    differs = np.abs(first - other).max(axis=(1, 2, 3)) > 1e-5
    np.testing.assert_array_equal(differs, inside)


@pytest.fixture(scope="module")
def chain_errors(learner):
    """Reward error over the spread of rewards, for actions as stored and for actions one row late.

    (One row early would not do: the core remembers an action that it was shown too soon.)
    """
    optimiser = optax.adam(1e-2)

    def rows_of(replay, key, shift):
        windows = replay.draw(key, batch=8, length=13)
        rows = replay.read(windows, length=13)
        return windows, replace(rows, action=jnp.roll(rows.action, shift, axis=1))

    def observe(model, chunk, key):
        noise = model.dynamics.space.noise(key, chunk.timestep.is_first.shape)
        losses, out = jax.vmap(lambda c, n: model.loss(c, noise=n))(chunk, noise)
        return losses.mean(), out.posterior.belief

    def step(carry, key, shift):
        model, opt_state, replay = carry
        k_sample, k_noise = jr.split(key)
        windows, rows = rows_of(replay, k_sample, shift)
        gradient, belief = jax.grad(observe, has_aux=True)(model, to_chunk(rows), k_noise)
        updates, opt_state = optimiser.update(gradient, opt_state)
        replay = replay.write_back(windows, fresh_latents(rows, belief), at=stored_latents)
        return (optax.apply_updates(model, updates), opt_state, replay), None

    @jax.jit
    @jax.vmap
    def train(shift):
        model = learner.params.world_model
        replay, _ = fill(learner, AGENT.policy(learner), 3, jr.key(3))
        carry = (model, optimiser.init(model), replay)
        (model, _, replay), _ = jax.lax.scan(lambda c, k: step(c, k, shift), carry, jr.split(jr.key(4), 400))
        _, rows = rows_of(replay, jr.key(5), shift)
        chunk = to_chunk(rows)
        _, belief = observe(model, chunk, jr.key(6))
        reward = chunk.timestep.reward.nominal
        error = model.nominal(belief.latent.feature).mean() - reward
        return jnp.sqrt(jnp.mean(jnp.square(error))) / reward.std()

    return train(jnp.array([0, 1]))


@pytest.mark.slow
def test_rewards_of_the_chain_are_learned_and_only_with_actions_in_their_place(chain_errors):
    """The chain pays by the size of the last action, which its observations do not tell."""
    aligned, shifted = chain_errors
    assert aligned < 0.15
    assert shifted > 0.5
