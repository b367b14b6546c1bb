"""A rung that only memory climbs: a cue at t = 0 is asked for twenty steps later (property test 31)."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array

from s5wm.agents.dreamer.agent import Dreamer, DreamerConfig, DreamerLearner
from s5wm.agents.dreamer.heads import ActorConfig, CriticConfig
from s5wm.agents.dreamer.imagination import ActorCriticConfig
from s5wm.agents.dreamer.stored import to_chunk
from s5wm.agents.optimiser import OptimiserConfig
from s5wm.agents.replay import ReplayConfig
from s5wm.envs.base import AbstractEnv
from s5wm.envs.toys import MemoryCueConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.nn.s5 import S5Config
from s5wm.training.loop import train
from s5wm.training.state import init_train
from s5wm.types import EnvSpec, TimeStep
from s5wm.worldmodel.config import BinsConfig, WorldModelConfig
from s5wm.worldmodel.latent import IdentityLatentConfig

CONFIG = DreamerConfig(
    world_model=WorldModelConfig(
        core=S5Config(width=32, state_size=128, block_size=16, layers=1, dt_min=0.01, dt_max=0.3),
        latent=IdentityLatentConfig(),
        units=32,
        encoder_layers=1,
        prior_layers=1,
        decoder_layers=1,
        linear_skips=True,
        prior_sees_inputs=True,
        symlog_inputs=False,
        bins=BinsConfig(count=41, limit=3.0),
    ),
    actor=ActorConfig(units=32, layers=1),
    critic=CriticConfig(units=32, layers=1, bins=41, limit=3.0),
    actor_critic=ActorCriticConfig(
        gradient="dynamics",
        num_imagination_starts=128,
        imagination_horizon=3,
        entropy=1e-3,
        replay_critic_weight=1.0,
    ),
    optimiser=OptimiserConfig(
        learning_rate=3e-3, ssm_multiplier=1.0, actor_multiplier=0.2, critic_multiplier=0.3, warmup=50
    ),
    replay=ReplayConfig(capacity=1024, batch=48, length=63, prefill=1024),
    discount_horizon=50.0,
    updates_per_rollout=2,
    actor_critic_warmup=1000,
)

ENVS = 64


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


def trained(env: AbstractEnv, *, seed: int, chunks: int = 56) -> tuple[Dreamer, DreamerLearner]:
    agent = CONFIG.build(env.spec, num_envs=ENVS)
    state = init_train(AutoReset(env), agent, ENVS, seed)
    for _ in range(chunks):
        state, _, _ = train(AutoReset(env), agent, state, length=16, iterations=80)
    return agent, state.learner


def mean_return(env: AbstractEnv, agent: Dreamer, learner: DreamerLearner) -> float:
    """Of greedy episodes; 1 is perfect, 0 is the best guess."""
    plan = EvalConfig(episodes=64, max_steps=64, recorded=1, snapshot=lambda state: state.elapsed)
    return float(run_episodes(env, agent.policy(learner), plan, jr.key(1)).return_nominal.mean())


@eqx.filter_jit
def reward_loss(agent: Dreamer, learner: DreamerLearner, *, resets: bool) -> Array:
    """Nats per row of replayed windows, three episodes in each, with or without the marks of their beginnings."""
    length = agent.config.replay.length + 1
    windows = learner.replay.draw(jr.key(3), batch=256, length=length)
    chunk = to_chunk(learner.replay.read(windows, length=length))
    if not resets:
        chunk = eqx.tree_at(lambda c: c.timestep.is_first, chunk, jnp.zeros_like(chunk.timestep.is_first))
    model = learner.params.world_model
    _, out = jax.vmap(lambda c: model.loss(c, noise=None))(chunk)
    return out.metrics["loss/reward_nominal"].mean()


@pytest.mark.learning
def test_the_cue_is_remembered_and_only_with_memory():
    env = MemoryCueConfig().build()
    forgetful = Forgetful(env)
    agent, learner = trained(env, seed=0)
    assert mean_return(env, agent, learner) > 0.8
    assert mean_return(forgetful, agent, learner) < 0.1
    with_resets, without = (float(reward_loss(agent, learner, resets=resets)) for resets in (True, False))
    assert without > 2 * with_resets

    assert mean_return(forgetful, *trained(forgetful, seed=0)) < 0.1
