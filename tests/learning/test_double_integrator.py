"""The shortest rung of the ladder: S5WM learns to bring a mass to rest, and is held against the optimum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.dreamer.heads import ActorConfig, CriticConfig
from s5wm.agents.dreamer.imagination import ActorCriticConfig
from s5wm.agents.optimiser import OptimiserConfig
from s5wm.agents.replay import ReplayConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.nn.s5 import S5Config
from s5wm.training.loop import train
from s5wm.training.state import init_train
from s5wm.worldmodel.config import BinsConfig, WorldModelConfig
from s5wm.worldmodel.latent import GaussianConfig

NUM_ENVS, LENGTH = 8, 16
STEPS = 64

CONFIG = DreamerConfig(
    world_model=WorldModelConfig(
        core=S5Config(width=16, state_size=16, block_size=8, layers=1, dt_min=0.05, dt_max=1.0),
        latent=GaussianConfig(width=4),
        units=32,
        encoder_layers=1,
        prior_layers=1,
        decoder_layers=1,
        linear_skips=True,
        prior_sees_inputs=True,
        symlog_inputs=False,
        bins=BinsConfig(count=41, limit=2.0),
    ),
    actor=ActorConfig(units=32, layers=2, std_min=0.05, std_bias=0.0),
    critic=CriticConfig(units=32, layers=2, bins=63, limit=4.0),
    actor_critic=ActorCriticConfig(
        gradient="dynamics", num_imagination_starts=128, imagination_horizon=10, entropy=1e-4
    ),
    optimiser=OptimiserConfig(learning_rate=1e-3, warmup=50),
    replay=ReplayConfig(capacity=1024, batch=16, length=16, prefill=512),
    discount_horizon=20.0,
    updates_per_rollout=4,
)


class Scores(NamedTuple):
    """Mean nominal return of greedy episodes, of the optimal controller, and of doing nothing."""

    learned: float
    optimal: float
    idle: float


def returns(env, act, carry, episodes):
    """Return of one episode each; ``act(carry, obs, is_first) -> carry, action``."""

    def episode(key):
        state, timestep = env.reset(key)

        def step(state, _):
            env_state, timestep, carry = state
            carry, action = act(carry, timestep.obs, timestep.is_first)
            env_state, timestep = env.step(env_state, action, key)
            return (env_state, timestep, carry), timestep.reward.nominal

        return jax.lax.scan(step, (state, timestep, carry), length=STEPS)[1].sum()

    return jax.vmap(episode)(jr.split(jr.key(99), episodes))


@jax.jit
def score(env, policy):
    def learned(carry, obs, is_first):
        return policy(carry, obs, is_first, key=None)[:2]

    def optimal(carry, obs, is_first):
        return carry, -jnp.sum(env.env.gain * obs, keepdims=True)

    def idle(carry, obs, is_first):
        return carry, jnp.zeros(1)

    return Scores(
        returns(env, learned, policy.initial(), 64).mean(),
        returns(env, optimal, None, 64).mean(),
        returns(env, idle, None, 64).mean(),
    )


def learn(env, agent, *, seed, chunks, iterations):
    state = init_train(AutoReset(env), agent, NUM_ENVS, seed)
    for _ in range(chunks):
        state, _, _ = train(AutoReset(env), agent, state, length=LENGTH, iterations=iterations)
    return score(env, agent.policy(state.learner))


@pytest.mark.learning
def test_s5wm_brings_a_mass_to_rest():
    """Most of what the optimum gains over doing nothing."""
    env = DoubleIntegratorConfig(steps=STEPS).build()
    agent = CONFIG.build(env.spec, num_envs=NUM_ENVS)
    scores = learn(env, agent, seed=0, chunks=4, iterations=25)
    assert scores.learned > scores.idle + 0.8 * (scores.optimal - scores.idle)
