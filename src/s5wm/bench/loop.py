"""Speed of the training program itself, and how its time divides."""

import functools as ft
import time
from collections.abc import Sequence
from typing import Any

import jax

from s5wm.agents.base import MetricSums
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.timing import time_pieces
from s5wm.training.loop import train_all
from s5wm.training.state import TrainState, init_train

States = Sequence[TrainState[Any]]


def time_training(experiment: Experiment, *, chunks: int, seeds: int = 1) -> dict[str, Any]:
    """``env_steps_per_s`` and ``updates_per_s`` once learning has begun, of all ``seeds`` trained together.

    Of a single one also the share of each part.
    """
    program, config = experiment.build(), experiment.train
    lengths = {"length": config.rollout_length, "iterations": config.iterations_per_chunk}

    def chunk(states: States) -> tuple[States, MetricSums]:
        results = train_all(program.env, program.agent, states, **lengths)
        return [result[0] for result in results], results[0][1]

    states: States = [
        init_train(program.env, program.agent, config.num_envs, experiment.seed + i) for i in range(seeds)
    ]
    begun = time.perf_counter()
    states, metrics = jax.block_until_ready(chunk(states))
    compile_s = time.perf_counter() - begun
    while not metrics.means:  # the replay is being filled
        states, metrics = chunk(states)
    samples: list[float] = []
    for _ in range(chunks):
        begun = time.perf_counter()
        states, _ = jax.block_until_ready(chunk(states))
        samples.append((time.perf_counter() - begun) / config.iterations_per_chunk)
    seconds = sorted(samples)[len(samples) // 2]  # per iteration
    timed = ft.partial(time_pieces, program.env, program.agent, length=config.rollout_length)
    shares = _shares(timed(states[0]), seconds) if seeds == 1 else {}
    return {
        "seeds": seeds,
        "env_steps_per_s": seeds * config.num_envs * config.rollout_length / seconds,
        "updates_per_s": seeds * program.updates_per_iteration / seconds,
        **shares,
        "first_chunk_s": compile_s,
        "iteration_samples_s": samples,
    }


def _shares(pieces: dict[str, float], seconds: float) -> dict[str, float]:
    shares = {f"share_{name}": value / seconds for name, value in pieces.items()}
    return shares | {"share_rest": 1.0 - sum(shares.values())}
