"""A rung that only memory climbs: a cue at t = 0 is asked for twenty steps later (property test 31)."""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array

from s5wm.agents.dreamer import DreamerConfig, ReplayConfig
from s5wm.agents.heads import ActorConfig, CriticConfig
from s5wm.agents.imagination import ActorCriticConfig
from s5wm.agents.optimiser import OptimiserConfig
from s5wm.envs.base import AbstractEnv
from s5wm.envs.toys import MemoryCueConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.nn.s5 import S5Config
from s5wm.train.loop import train, unroll
from s5wm.train.state import init_actor, init_train
from s5wm.types import EnvSpec, TimeStep
from s5wm.worldmodel.latent import GaussianConfig
from s5wm.worldmodel.model import BinsConfig, WorldModelConfig

CONFIG = DreamerConfig(
    world_model=WorldModelConfig(
        core=S5Config(width=32, state_size=32, block_size=16, layers=1, dt_min=0.01, dt_max=0.3),
        latent=GaussianConfig(width=4),
        units=32,
        encoder_layers=1,
        prior_layers=1,
        decoder_layers=1,
        linear_skips=True,
        prior_sees_inputs=True,
        symlog_inputs=False,
        bins=BinsConfig(count=41, limit=1.0),
    ),
    actor=ActorConfig(units=32, layers=1),
    critic=CriticConfig(units=32, layers=1, bins=41, limit=1.0),
    actor_critic=ActorCriticConfig(gradient="dynamics", starts=64, imagination_horizon=5, entropy=1e-3),
    optimiser=OptimiserConfig(learning_rate=3e-3, warmup=50),
    replay=ReplayConfig(capacity=1024, batch=16, length=32, prefill=1024),
    discount_horizon=50.0,
    updates_per_rollout=8,
)


class Forgetful(AbstractEnv):
    """Says at every step that an episode begins, so that a model forgets all it saw."""

    env: AbstractEnv

    @property
    def spec(self) -> EnvSpec:
        return self.env.spec

    def _amnesic(self, stepped: tuple[object, TimeStep]) -> tuple[object, TimeStep]:
        state, timestep = stepped
        return state, replace(timestep, is_first=jnp.ones((), bool))

    def reset(self, key):
        return self._amnesic(self.env.reset(key))

    def restart(self, state, key):
        return self._amnesic(self.env.restart(state, key))

    def step(self, state, action, key):
        return self._amnesic(self.env.step(state, action, key))

    def episode_metrics(self, state):
        return self.env.episode_metrics(state)


def mean_return(env: AbstractEnv, *, seed: int, chunks: int) -> float:
    """Of greedy episodes after training; 1 is perfect, 0 is guessing."""
    agent = CONFIG.build(env.spec, num_envs=16)
    state = init_train(env, agent, 16, seed)
    for _ in range(chunks):
        state, _, _ = train(env, agent, state, length=16, iterations=20)

    @eqx.filter_jit
    def judge(learner, key) -> Array:
        policy = agent.policy(learner)

        class Greedy(type(policy)):
            def __call__(self, carry, obs, is_first, *, key):
                return super().__call__(carry, obs, is_first, key=None)

        greedy = Greedy(policy.encoder, policy.dynamics, policy.actor)
        actor = init_actor(env, greedy, 64, key=key)
        sums = unroll(env, greedy, actor, length=100, key=key)[2]
        return sums.metrics["return_nominal"] / jnp.maximum(sums.count, 1.0)

    return float(judge(state.learner, jr.key(1)))


@pytest.mark.learning
@pytest.mark.xfail(reason="not climbed yet at four settings: docs/lab-notes.md, 8")
def test_the_cue_is_remembered_and_only_with_memory():
    env = AutoReset(MemoryCueConfig().build())
    remembered = mean_return(env, seed=0, chunks=40)
    assert remembered > 0.8
    assert mean_return(Forgetful(env), seed=0, chunks=40) < remembered - 0.5
