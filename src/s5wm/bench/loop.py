"""Speed of the training program itself, and how its time divides."""

import time
from typing import Any

import jax

from s5wm.experiment import Experiment
from s5wm.train.loop import train
from s5wm.train.state import init_train


def time_training(experiment: Experiment, *, chunks: int) -> dict[str, Any]:
    """``env_steps_per_s``, ``updates_per_s`` and the share of each part, once learning has begun."""
    program, config = experiment.build(), experiment.train
    state = init_train(program.env, program.agent, config.num_envs, experiment.seed)
    lengths = {"length": config.rollout_length, "iterations": config.iterations_per_chunk}
    begun = time.perf_counter()
    state, metrics, _ = jax.block_until_ready(train(program.env, program.agent, state, **lengths))
    compile_s = time.perf_counter() - begun
    while float(metrics.get("gradient/world_model", 1.0)) == 0.0:  # the replay is being filled
        state, metrics, _ = train(program.env, program.agent, state, **lengths)
    samples: list[float] = []
    for _ in range(chunks):
        begun = time.perf_counter()
        state, _, _ = jax.block_until_ready(train(program.env, program.agent, state, **lengths))
        samples.append((time.perf_counter() - begun) / config.iterations_per_chunk)
    seconds = sorted(samples)[len(samples) // 2]  # per iteration
    pieces = program.time_pieces(state)
    shares = {f"share_{name}": value / seconds for name, value in pieces.items()}
    return {
        "env_steps_per_s": config.num_envs * config.rollout_length / seconds,
        "updates_per_s": program.updates_per_iteration / seconds,
        **shares,
        "share_rest": 1.0 - sum(shares.values()),
        "first_chunk_s": compile_s,
        "iteration_samples_s": samples,
    }
