"""Run directories that hold an untrained state."""

import dataclasses
from pathlib import Path

import equinox as eqx

from s5wm.envs.hover import HoverConfig
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.runs.checkpoint import Checkpoints
from s5wm.training.config import TrainConfig
from s5wm.training.run import abstract_state

from .oracle import CONFIG, fill, make_learner

STEPS, HORIZON = 30, 6
SMALL = Experiment(
    task=HoverConfig(seconds=STEPS * 0.02),
    agent=dataclasses.replace(CONFIG, replay=dataclasses.replace(CONFIG.replay, prefill=16)),
    train=TrainConfig(num_envs=2, rollout_length=6),
)


def save_run(folder: Path, experiment: Experiment) -> Path:
    """A run that has saved its untrained state at 192 steps."""
    folder.mkdir(exist_ok=True)
    save_experiment(folder / "config.json", experiment)
    env = experiment.build_env()
    agent = experiment.build_agent(env)
    state = fill(abstract_state(experiment.build(), experiment.train, experiment.seed))
    state = eqx.tree_at(lambda s: s.learner, state, make_learner(agent))
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    checkpoints.save(192, state, {"env_steps": 192}, agent.policy(state.learner))
    checkpoints.wait()
    return folder
