"""Trains a tiny S5WM as one of several processes.

python -m tests.faults.in_processes RUN ENV_STEPS COORDINATOR PROCESSES PROCESS
"""

import sys
from dataclasses import replace
from pathlib import Path

from s5wm.distributed.processes import from_main_process, join
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.run import run_experiment
from s5wm.training.config import TrainConfig

from ..tiny import S5WM

EXPERIMENT = Experiment(
    task=DoubleIntegratorConfig(steps=10),
    agent=replace(S5WM, replay=replace(S5WM.replay, batch=4)),
    train=TrainConfig(
        num_envs=8,
        rollout_length=8,
        iterations_per_chunk=2,
        eval_every=256,
        eval_episodes=2,
        checkpoint_every=128,
    ),
)


def main(run: str, env_steps: str, coordinator: str, processes: str, process: str) -> None:
    """Train to the end."""
    if int(processes) > 1:
        join(coordinator, int(processes), int(process))
        assert from_main_process(0.0 if int(process) else 2.0**40 + 0.1) == 2.0**40 + 0.1
    train = replace(EXPERIMENT.train, env_steps=int(env_steps))
    assert run_experiment(replace(EXPERIMENT, train=train), Path(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
