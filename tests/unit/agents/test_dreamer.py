"""What is kept of a gradient step that was skipped: the very batch it had drawn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.agents.dreamer import DreamerConfig
from s5wm.agents.heads import ActorConfig, CriticConfig
from s5wm.agents.imagination import ActorCriticConfig
from s5wm.agents.replay import ReplayConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.nn.s5 import S5Config
from s5wm.worldmodel.latent import CategoricalConfig
from s5wm.worldmodel.model import BinsConfig, WorldModelConfig

BATCH, LENGTH = 2, 4

CONFIG = DreamerConfig(
    world_model=WorldModelConfig(
        core=S5Config(width=4, state_size=4, block_size=4, layers=1),
        latent=CategoricalConfig(groups=2, classes=2),
        units=4,
        encoder_layers=1,
        prior_layers=1,
        decoder_layers=1,
        bins=BinsConfig(count=5, limit=2.0),
    ),
    actor=ActorConfig(units=4, layers=1),
    critic=CriticConfig(units=4, layers=1, bins=5),
    actor_critic=ActorCriticConfig(imagination_horizon=2, starts=4),
    replay=ReplayConfig(capacity=32, batch=BATCH, length=LENGTH, prefill=32),
)


def test_the_batch_of_a_skipped_step_is_the_evidence() -> None:
    agent = CONFIG.build(DoubleIntegratorConfig().build().spec, num_envs=8)
    learner = jax.jit(agent.init)(jr.key(0))
    learner = eqx.tree_at(lambda x: x.replay.filled, learner, jnp.asarray(32))
    assert agent.evidence(learner) is None

    row = (3, 17)  # of environment 3
    poisoned = learner.replay.rows.timestep.obs.at[row].set(jnp.nan)
    learner = eqx.tree_at(lambda x: x.replay.rows.timestep.obs, learner, poisoned)
    step = jax.jit(lambda learner, key: agent.gradient_step(learner, jnp.zeros(()), key)[0])
    for i in range(120):
        key = jr.fold_in(jr.key(1), i)
        after = step(learner, key)
        skipped = int(after.guard.skipped) > int(learner.guard.skipped)
        windows, _ = agent.sample(learner.replay, jr.split(key)[0])
        offset = (row[1] - np.asarray(windows.start)) % 32
        hit = (np.asarray(windows.env) == row[0]) & (offset <= LENGTH)
        assert skipped == bool(hit.any())
        if skipped:
            suspect, updates, rows = agent.evidence(after)
            jax.tree.map(np.testing.assert_array_equal, suspect.windows, windows)
            assert int(suspect.update) == int(updates) - 1 == i
            assert np.isnan(rows.timestep.obs).any(axis=(1, 2)).tolist() == hit.tolist()
            jax.tree.map(np.testing.assert_array_equal, after.params, learner.params)
        learner = after
    assert int(learner.guard.skipped) > 0
