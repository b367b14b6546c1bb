"""A training so small that it fits into a unit test."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.runs.directory import RunDirectory
from s5wm.runs.log import Row
from s5wm.training import fit as host_loop
from s5wm.training.config import TrainConfig
from s5wm.training.fit import SeedRun, fit, load
from s5wm.training.loop import train_all
from s5wm.training.run import Program, Trainer


class RecordingSink:
    """A sink that keeps rows and texts."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.texts: list[str] = []

    def write_row(self, row: Row) -> None:
        self.rows.append(row)

    def write_line(self, text: str) -> None:
        self.texts.append(text)

    def close(self) -> None:
        pass


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def tiny() -> Experiment:
    """PPO on the double integrator: chunks of 64 steps, four of them."""
    return Experiment(
        task=DoubleIntegratorConfig(steps=10),
        agent=PPOConfig(units=4, layers=1, epochs=1, minibatches=2),
        train=TrainConfig(
            num_envs=4,
            rollout_length=8,
            iterations_per_chunk=2,
            env_steps=256,
            eval_every=128,
            eval_episodes=2,
            checkpoint_every=64,
        ),
    )


@pytest.fixture
def one_compile_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program through the cache of jit, which several trainers of one process share."""

    def cached(group: host_loop.SeedGroup, *_: Any) -> host_loop.Chunk:
        program, config = group[0].trainer.program, group[0].trainer.config
        given = (program.env, program.agent)
        length = config.rollout_length
        return lambda states, iterations: train_all(
            *given, states, length=length, iterations=np.int32(iterations)
        )

    monkeypatch.setattr(host_loop, "_compile", cached)


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return tmp_path / "a run, with ünicode"


def with_steps(experiment: Experiment, env_steps: int) -> Experiment:
    return replace(experiment, train=replace(experiment.train, env_steps=env_steps))


def alone(trainer: Trainer, sink: RecordingSink) -> bool:
    return fit([SeedRun(trainer, sink, lambda: None)], sink.write_line)


def trained(
    experiment: Experiment, path: Path, sink: RecordingSink, program: Program | None = None
) -> Trainer:
    with RunDirectory(path) as directory:
        save_experiment(directory.config, experiment)
        trainer = Trainer(program or experiment.build(), experiment.train, directory, experiment.seed)
        load([trainer], sink.write_line)
        alone(trainer, sink)
    return trainer
