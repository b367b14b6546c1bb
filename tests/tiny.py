"""The smallest agents that have a world model, for tests of what surrounds it."""

from dataclasses import replace

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.dreamer.heads import ActorConfig, CriticConfig
from s5wm.agents.dreamer.imagination import ActorCriticConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.agents.replay import ReplayConfig
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.s5 import S5Config
from s5wm.training.config import TrainConfig
from s5wm.worldmodel.config import BinsConfig, PosteriorInput, WorldModelConfig
from s5wm.worldmodel.latent import CategoricalConfig

WORLD_MODEL = WorldModelConfig(
    core=S5Config(width=4, state_size=4, block_size=4, layers=1),
    latent=CategoricalConfig(groups=2, classes=2),
    units=4,
    encoder_layers=1,
    prior_layers=1,
    decoder_layers=1,
    bins=BinsConfig(count=5, limit=2.0),
)
S5WM = DreamerConfig(
    world_model=WORLD_MODEL,
    actor=ActorConfig(units=4, layers=1),
    critic=CriticConfig(units=4, layers=1, bins=5),
    actor_critic=ActorCriticConfig(imagination_horizon=2, num_imagination_starts=4),
    replay=ReplayConfig(capacity=32, batch=2, length=4, prefill=32),
)
DREAMERV3 = replace(
    S5WM,
    world_model=replace(
        WORLD_MODEL, core=BlockGRUConfig(width=4, hidden=4, blocks=2), posterior=PosteriorInput.MEMORY
    ),
)
PPO = PPOConfig(units=4, layers=1, epochs=1, minibatches=2)
TRAIN = TrainConfig(
    num_envs=2,
    rollout_length=8,
    iterations_per_chunk=2,
    env_steps=32,
    eval_every=32,
    eval_episodes=2,
    checkpoint_every=32,
)
"""Two iterations, one chunk, one evaluation and one checkpoint."""


def learning(agent: DreamerConfig) -> DreamerConfig:
    """Learns from the second iteration on, if four environments take eight steps in each.

    Tests that train it so share one compiled program, through the cache of compiled programs.
    """
    return replace(agent, replay=replace(agent.replay, prefill=64))
