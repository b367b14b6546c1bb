"""Speed of the training program itself, and how its time divides."""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import jax

from s5wm.agents.base import MetricSums
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.timing import time_pieces
from s5wm.training.loop import train_all
from s5wm.training.state import TrainState, init_train

States = Sequence[TrainState[Any]]


def time_trainings(
    experiments: Mapping[str, Experiment], *, chunks: int, seeds: int = 1
) -> dict[str, dict[str, Any]]:
    """``env_steps_per_s`` and ``updates_per_s`` once learning has begun, of all ``seeds`` trained together, by agent.

    Of a single seed also the share of each part.  Agents take turns, chunk by chunk, so that a change of the machine's
    speed meets all of them.
    """
    loops = {name: _Loop(experiment, seeds) for name, experiment in experiments.items()}
    samples: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(chunks):
        for name, loop in loops.items():
            begun = time.perf_counter()
            loop.advance()
            samples[name].append((time.perf_counter() - begun) / loop.config.iterations_per_chunk)
    return {name: loop.figures(samples[name]) for name, loop in loops.items()}


class _Loop:
    """A training that has begun to learn."""

    def __init__(self, experiment: Experiment, seeds: int) -> None:
        self.config, self._program = experiment.train, experiment.build()
        env, agent = self._program.env, self._program.agent
        self._states: States = [
            init_train(env, agent, self.config.num_envs, experiment.seed + i) for i in range(seeds)
        ]
        begun = time.perf_counter()
        metrics = self.advance()
        self._first_chunk_s = time.perf_counter() - begun
        while not metrics.means:  # the replay is being filled
            metrics = self.advance()

    def advance(self) -> MetricSums:
        """One chunk."""
        lengths = {"length": self.config.rollout_length, "iterations": self.config.iterations_per_chunk}
        results = train_all(self._program.env, self._program.agent, self._states, **lengths)
        results = jax.block_until_ready(results)
        self._states = [result[0] for result in results]
        return results[0][1]

    def figures(self, samples: list[float]) -> dict[str, Any]:
        """Of samples in seconds per iteration."""
        seconds, seeds = median(samples), len(self._states)
        shares: dict[str, float] = {}
        if seeds == 1:
            env, agent, length = self._program.env, self._program.agent, self.config.rollout_length
            shares = _shares(time_pieces(env, agent, self._states[0], length=length), seconds)
        return {
            "seeds": seeds,
            "env_steps_per_s": seeds * self.config.num_envs * self.config.rollout_length / seconds,
            "updates_per_s": seeds * self._program.updates_per_iteration / seconds,
            **shares,
            "first_chunk_s": self._first_chunk_s,
            "iteration_samples_s": samples,
        }


def _shares(pieces: dict[str, float], seconds: float) -> dict[str, float]:
    shares = {f"share_{name}": value / seconds for name, value in pieces.items()}
    return shares | {"share_rest": 1.0 - sum(shares.values())}
