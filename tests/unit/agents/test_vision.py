"""Agents that see: nothing privileged reaches a policy, and the asymmetric PPO learns from frames."""

import inspect
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.dreamer.policy import DreamerPolicy
from s5wm.agents.ppo.actor import FrameStackConfig, PolicyExtras, S5MemoryConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.envs.wrappers import AutoReset
from s5wm.experiments.presets.sizes import VISION_AGENTS, agent_configs
from s5wm.experiments.trained import checked_observation
from s5wm.nn.conv import PatchConfig
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.s5 import S5Config
from s5wm.training.loop import train, unroll
from s5wm.training.state import init_actor, init_train
from s5wm.types import Reward, TimeStep, Transition

from .toy import SIDE, ShownOnce

ENV = AutoReset(ShownOnce(jnp.ones(())))


S5 = S5Config(width=8, state_size=8, block_size=4, layers=1, dt_max=1.0)
TINY_CORES = {"s5wm": S5, "s5wm-p": S5, "dreamerv3-p": BlockGRUConfig(width=8, hidden=4, blocks=2)}


def small(agent):
    config, _ = agent_configs(agent, "cpu", images=True)
    if isinstance(config, DreamerConfig):
        return replace(config, replay=replace(config.replay, capacity=64))
    return config


@pytest.mark.parametrize("policy", [AbstractPolicy, DreamerPolicy, PPOPolicy])
def test_no_policy_takes_a_privileged_state(policy):
    assert list(inspect.signature(policy.__call__).parameters) == ["self", "carry", "obs", "is_first", "key"]


@pytest.mark.parametrize("agent", VISION_AGENTS)
def test_what_is_privileged_changes_no_action(agent):
    """Not even where it is not a number."""
    agent = small(agent).build(ENV.spec, num_envs=2)
    random = np.random.default_rng(0)
    policy = jax.tree.map(  # without compiling what initialises it
        lambda leaf: jnp.asarray(0.3 * random.normal(size=leaf.shape), leaf.dtype),
        jax.eval_shape(lambda: agent.policy(agent.init(jr.key(0)))),
    )

    @jax.jit
    def actions(env, key):
        return unroll(env, policy, init_actor(env, policy, 2, key=key), length=6, key=key)[1]

    rows = actions(ENV, jr.key(1))
    poisoned = actions(AutoReset(ShownOnce(jnp.full((), jnp.nan))), jr.key(1))
    assert np.isnan(poisoned.timestep.privileged).all()
    jax.tree.map(
        np.testing.assert_array_equal, (rows.action, rows.extras), (poisoned.action, poisoned.extras)
    )
    assert np.asarray(rows.action).std() > 1e-3


CONFIG = PPOConfig(
    units=16,
    layers=1,
    critic_inputs="privileged",
    memory=FrameStackConfig(),
    image=PatchConfig(patch=8, depth=4, multipliers=(1,)),
    discount=0.9,
    learning_rate=1e-2,
    entropy=0.0,
    log_std_init=-1.0,
    epochs=4,
    minibatches=2,
)
S5_MEMORY = S5MemoryConfig(core=S5Config(width=8, state_size=8, block_size=4, layers=1, dt_max=1.0), rows=4)


def shown(draw):
    """The two frames in which a policy chooses."""
    level = jnp.round(jnp.array([128 + 100 * draw, 128.0]))
    return jnp.broadcast_to(level[:, None, None, None], (2, SIDE, SIDE, 3)).astype(jnp.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(FrameStackConfig(), id="stack"),
        pytest.param(S5_MEMORY, id="s5", marks=pytest.mark.faults),
    ],
)
def test_an_asymmetric_agent_learns_what_it_saw_a_frame_ago(memory):
    agent = replace(CONFIG, memory=memory).build(ENV.spec)
    state, _, _ = train(ENV, agent, init_train(ENV, agent, 32, 0), length=9, iterations=120)
    policy = agent.policy(state.learner)
    for draw in (-0.6, 0.6):
        carry, frames = policy.initial(), shown(draw)
        for t in range(2):
            carry, action, _ = policy(carry, frames[t], jnp.array(t == 0), key=None)
        np.testing.assert_allclose(action, draw, atol=0.15)
        # The critic knows the draw without having seen it.
        now = state.learner.critic_moments.normalise(jnp.array([draw, 1.0]))
        spread = float(jnp.exp(2 * state.learner.params.log_std[0]))
        assert state.learner.params.critic(now)[0] == pytest.approx(-spread, abs=0.1)


def learner_of(agent):
    """With small networks; they compile for more than a minute all the same."""
    config = small(agent)
    world_model = replace(
        config.world_model,
        core=TINY_CORES[agent],
        image=PatchConfig(patch=8, depth=4, multipliers=(1,)),
        units=8,
    )
    return replace(
        config,
        world_model=world_model,
        actor_critic=replace(config.actor_critic, imagination_horizon=2, num_imagination_starts=4),
        replay=replace(config.replay, capacity=16, batch=2, length=4, prefill=8),
        updates_per_rollout=2,
        actor_critic_warmup=0,
    ).build(ENV.spec, num_envs=2)


def test_an_update_from_frames_fits_together():
    """Shapes and types alone; agents/test_mixed.py learns from images in the loop."""
    agent = learner_of("s5wm-p")
    learner = jax.eval_shape(agent.init, jr.key(0))
    after, _ = jax.eval_shape(agent.gradient_step, learner, jnp.zeros(()), jr.key(1))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), learner
    )


@pytest.mark.faults
@pytest.mark.parametrize("agent", TINY_CORES)
def test_a_world_model_learns_from_the_frames_of_its_replay(agent):
    """Two small updates: finite, everything moves, and frames stay bytes."""
    agent = learner_of(agent)
    before = init_train(ENV, agent, 2, 0)
    begun = jax.tree.map(np.asarray, before.learner.params.world_model.encoder)
    state, metrics, _ = train(ENV, agent, before, length=8, iterations=1)
    assert metrics.count == 2
    assert all(np.isfinite(value) for value in metrics.means.values())
    assert np.abs(metrics.means["loss/decoder"]) > 1.0  # with a learned spread a likelihood, of either sign
    assert state.learner.updates == 2
    frames = state.learner.replay.rows.timestep.obs
    assert frames.dtype == jnp.uint8 and set(np.unique(frames[:, :8])) == {68, 128, 188}
    after = state.learner.params.world_model.encoder
    assert np.abs(begun.network.stages[0].linear.weight - after.network.stages[0].linear.weight).max() > 0


def rollout(agent, key):
    """Random rows of four environments."""
    k_obs, k_privileged, k_reward, k_action = jr.split(key, 4)
    no = jnp.zeros((4, 9), bool)
    timestep = TimeStep(
        obs=jr.randint(k_obs, (4, 9, SIDE, SIDE, 3), 0, 256).astype(jnp.uint8),
        privileged=jr.normal(k_privileged, (4, 9, 2)),
        reward=Reward(jr.normal(k_reward, (4, 9)), jnp.zeros((4, 9))),
        is_first=no,
        is_last=no,
        is_terminal=no,
    )
    carry = agent.policy(agent.init(jr.key(0))).initial()
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, 9, *x.shape)), carry)
    return Transition(timestep, jr.normal(k_action, (4, 9, 1)), PolicyExtras(-jnp.ones((4, 9)), carry))


def test_actor_and_critic_share_nothing():
    """Each loss has a gradient in its own network alone."""
    agent = CONFIG.build(ENV.spec)
    learner = agent.init(jr.key(0))
    samples = agent._samples(learner, rollout(agent, jr.key(1)), jnp.zeros(()))

    @eqx.filter_jit
    def gradient(name):
        return jax.grad(lambda p: agent._loss(p, samples)[1][name])(learner.params)

    def largest(tree):
        return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))

    of_value, of_policy = gradient("loss/value"), gradient("loss/policy")
    assert largest(of_value.critic) > 1e-3 and largest((of_value.actor, of_value.log_std)) == 0.0
    assert largest(of_policy.actor) > 1e-5 and largest(of_policy.critic) == 0.0


def test_a_critic_of_images_is_refused():
    with pytest.raises(ValueError, match=r"shows images of \(16, 16, 3\).*use 'privileged'"):
        replace(CONFIG, critic_inputs="obs").build(ENV.spec)


@pytest.mark.parametrize(
    ("obs", "named"),
    [
        (
            np.zeros((SIDE, SIDE, 3), np.float32),
            r"dtype float32 was given, \(16, 16, 3\) and uint8 is expected",
        ),
        (np.zeros((2, SIDE, SIDE, 3), np.uint8), r"shape \(2, 16, 16, 3\) and dtype uint8"),
    ],
)
def test_observations_that_are_no_frame_are_refused(obs, named):
    with pytest.raises(ValueError, match=named):
        checked_observation(obs, ENV.spec)


def test_a_frame_is_passed_on_as_it_is():
    frame = np.full((SIDE, SIDE, 3), 7, np.uint8)
    assert checked_observation(frame, ENV.spec) is frame
