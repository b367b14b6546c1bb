"""Presets: sizes of agents that are compared, and the lattice by overrides."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box
from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.envs.racing.task import RacingConfig
from s5wm.errors import ConfigError
from s5wm.experiments.configfile import TrainRequest, resolve
from s5wm.experiments.configure import configure
from s5wm.experiments.experiment import save_experiment
from s5wm.experiments.presets import preset
from s5wm.experiments.presets.few_steps import FEW_STEPS
from s5wm.experiments.presets.sizes import VISION_AGENTS, agent_configs
from s5wm.experiments.trained import load_agent, pretrained_names
from s5wm.nn.gru import BlockGRUConfig
from s5wm.runs.files import read_json
from s5wm.types import EnvSpec
from s5wm.worldmodel.config import PosteriorInput


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


@pytest.mark.parametrize("race", FEW_STEPS)
def test_world_models_learn_a_race_alike_but_for_the_core(race):
    """Of size cpu: a comparison of two agents is one of their cores."""
    ours, theirs = preset(race, "s5wm"), preset(race, "dreamerv3")
    for experiment in (ours, theirs):
        agent = experiment.agent
        assert isinstance(agent, DreamerConfig)
        rows = agent.updates_per_rollout * agent.replay.batch * agent.replay.length
        assert rows / experiment.train.iteration_steps == 64  # the train ratio
    core, posterior = theirs.agent.world_model.core, theirs.agent.world_model.posterior
    assert isinstance(core, BlockGRUConfig)
    model = replace(ours.agent.world_model, core=core, posterior=posterior)
    changed = replace(ours, name=theirs.name, agent=replace(ours.agent, world_model=model))
    assert changed == theirs


ROOT = Path(__file__).parents[2]
IMAGES = EnvSpec(
    (64, 64, 3), np.dtype(np.uint8), privileged_size=40, action=Box((4,)), ctrl_dt=0.02, has_smoothing=True
)
SEEING = [(agent, size) for agent, sizes in VISION_AGENTS.items() for size in sizes]


@pytest.mark.parametrize(("agent", "size"), SEEING)
def test_every_agent_can_be_built_for_images(agent, size):
    """Learner, policy and replay by their shapes; size cpu keeps its replay below 2 GB."""
    config, train = agent_configs(agent, size, images=True)
    learner = jax.eval_shape(config.build(IMAGES, num_envs=train.num_envs).init, jr.key(0))
    if not isinstance(config, DreamerConfig):
        assert config.critic_inputs == "privileged"
        return
    model, frames = config.world_model, learner.replay.rows.timestep.obs
    assert model.target == ("privileged" if agent.endswith("-p") else "observation")
    assert isinstance(model.core, BlockGRUConfig) == agent.startswith("dreamerv3")
    assert frames.dtype == np.uint8 and frames.shape == (train.num_envs, config.replay.capacity, 64, 64, 3)
    assert size != "cpu" or learner.replay.nbytes() < 2e9


def test_sizes_on_images_are_matched_too():
    def count(agent):
        config, _ = agent_configs(agent, "cpu", images=True)
        learner = jax.eval_shape(config.build(IMAGES, num_envs=1).init, jr.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(learner.params))

    assert count("dreamerv3") == pytest.approx(count("s5wm"), rel=0.01)
    assert count("dreamerv3-p") == pytest.approx(count("s5wm-p"), rel=0.01)


def test_what_cannot_see_is_refused():
    with pytest.raises(ConfigError, match="agent 'ppo' reads vectors, but this task shows images"):
        agent_configs("ppo", "cpu", images=True)
    blind, _ = agent_configs("s5wm", "cpu")
    with pytest.raises(
        ValueError, match=r"IdentityLatentConfig.*images of \(64, 64, 3\): choose GaussianConfig"
    ):
        blind.build(IMAGES, num_envs=1)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"posterior": PosteriorInput.MEMORY}, "its own estimator outputs and has no use for h"),
        ({"target": "observation"}, "is the privileged state: use target 'privileged'"),
    ],
)
def test_what_a_believed_latent_leaves_open(change, rule):
    agent, _ = agent_configs("s5wm-p", "cpu", images=True)
    with pytest.raises(ValueError, match=rule):
        replace(agent.world_model, **change)


def test_no_critic_teaches_believed_dynamics():
    agent, _ = agent_configs("s5wm-p", "cpu", images=True)
    with pytest.raises(ValueError, match="set replay_gradient=false"):
        replace(agent, replay_gradient=True)


def override(*changes):
    experiment = configure("hover", "s5wm", "1m", seed=0, budget=(None, None), overrides=changes)
    assert isinstance(experiment.agent, DreamerConfig)
    return experiment.agent.world_model


def test_a_small_budget_has_rates_of_its_own():
    rates = {
        (spec, size): configure(
            spec, "s5wm", size, seed=0, budget=(None, None), overrides=()
        ).agent.optimiser.learning_rate
        for spec in ("gymnasium:Pendulum-v1", "hover")
        for size in ("cpu", "1m")
    }
    assert rates["gymnasium:Pendulum-v1", "1m"] == 4e-4 and rates["hover", "1m"] == 4e-5
    assert rates["gymnasium:Pendulum-v1", "cpu"] == 1e-3


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
    load_agent(name, which="best", warn=said.append)
    assert said == []


def leaves(value, path=""):
    """Fields of a configuration that JSON holds, by path."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for name, inner in value.items() for k, v in leaves(inner, f"{path}.{name}").items()}


@pytest.mark.parametrize("race", ["split-s", "figure-8-state"])
def test_the_file_of_many_steps_is_what_its_recorded_training_had(race, tmp_path):
    """Whatever the preset becomes: of all fields that the record knows, which is of an earlier version."""
    file = ROOT / f"examples/trainings/{race}-many-steps.json"
    save_experiment(tmp_path / "config.json", resolve(TrainRequest(), file, warn=pytest.fail))
    record = read_json(ROOT / f"results/learning/race-{race}-s5wm-many-steps-cpu-0.json")
    now, then = leaves(read_json(tmp_path / "config.json")["experiment"]), leaves(record["config"])
    shared = (now.keys() & then.keys()) - {".agent.world_model.latent.type"}  # it has another name now
    assert len(shared) > 100
    assert {k: now[k] for k in shared} == {k: then[k] for k in shared}
