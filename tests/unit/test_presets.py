"""Presets: sizes of agents that are compared, and the lattice by overrides."""

from dataclasses import replace

import jax
import jax.random as jr
import pytest

from s5wm.acting import load_agent, pretrained_names
from s5wm.agents.dreamer import DreamerConfig
from s5wm.api import configure
from s5wm.envs.racing.task import RacingConfig
from s5wm.errors import ConfigError
from s5wm.nn.gru import BlockGRUConfig
from s5wm.presets import agent_configs
from s5wm.worldmodel.model import PosteriorInput


def parameters(agent, size):
    config, _ = agent_configs(agent, size)
    config = replace(config, replay=replace(config.replay, capacity=128))
    learner = jax.eval_shape(config.build(RacingConfig().build().spec, num_envs=1).init, jr.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(learner.params))


@pytest.mark.parametrize(
    ("size", "s5wm", "dreamerv3"),
    [("cpu", 0.199, 0.199), ("1m", 0.707, 0.707), ("12m", 9.61, 10.59)],  # as docs/deviations.md says
)
def test_sizes_are_matched_by_parameters(size, s5wm, dreamerv3):
    assert parameters("s5wm", size) / 1e6 == pytest.approx(s5wm, abs=0.005)
    assert parameters("dreamerv3", size) / 1e6 == pytest.approx(dreamerv3, abs=0.005)


def override(*changes):
    experiment = configure("hover", "s5wm", "1m", seed=0, budget=(None, None), overrides=changes)
    assert isinstance(experiment.agent, DreamerConfig)
    return experiment.agent.world_model


def test_every_point_of_the_lattice_can_be_asked_for():
    model = override("agent.world_model.posterior=h,o")
    assert model.posterior is PosteriorInput.MEMORY
    model = override("agent.world_model.core.type=BlockGRUConfig", "agent.world_model.core.width=64")
    assert isinstance(model.core, BlockGRUConfig) and model.core.width == 64
    with pytest.raises(ConfigError, match="h,o"):
        override("agent.world_model.posterior=h")


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_policies_load_without_a_warning(name):
    said: list[str] = []
    load_agent(name, which="best", say=said.append)
    assert said == []
