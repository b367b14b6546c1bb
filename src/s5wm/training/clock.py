"""Time of a training: what its clock shows, how long the next chunk may be, and when it will end."""

import math
import time
from collections import deque

from s5wm.distributed.processes import from_main_process
from s5wm.training.config import TrainConfig
from s5wm.training.host import HostState

RECENT = 10
"""Chunks whose mean pace counts: learning begins late, and machines are shared."""


class Clock:
    """Runs from the moment a training starts or goes on, after the minutes that its run has used before.

    The leading process reads it, so that a budget in minutes ends in all processes at once.
    """

    def __init__(self, minutes: float) -> None:
        self._before = minutes
        self._begun = time.monotonic()
        self._chunks: deque[tuple[int, float]] = deque(maxlen=RECENT)  # iterations and seconds
        self._evaluations: list[float] = []  # seconds; the first one compiles

    @property
    def minutes(self) -> float:
        """Of the whole training: compiling, evaluating and saving included."""
        return self._before + from_main_process(time.monotonic() - self._begun) / 60

    def trained(self, iterations: int, seconds: float) -> None:
        """A chunk took so long."""
        self._chunks.append((iterations, seconds))

    def evaluated(self, seconds: float) -> None:
        """An evaluation took so long."""
        self._evaluations.append(seconds)

    @property
    def pace(self) -> float | None:
        """Seconds per iteration; None before the first chunk."""
        iterations = sum(count for count, _ in self._chunks)
        return sum(seconds for _, seconds in self._chunks) / iterations if iterations else None

    def next_chunk(self, config: TrainConfig, host: HostState) -> int:
        """Iterations of the next chunk: fewer than usual where the budget ends before, at least one."""
        left = math.ceil((config.env_steps - host.env_steps) / config.iteration_steps)
        if config.minutes is not None and self.pace:
            left = min(left, math.ceil(60 * (config.minutes - host.wall_minutes) / self.pace))
        return max(1, min(left, config.iterations_per_chunk))

    def eta_minutes(self, config: TrainConfig, host: HostState) -> float:
        """Until the first of the budgets is used, evaluations included; NaN before the first chunk."""
        if self.pace is None:
            return math.nan
        steps = max(config.env_steps - host.env_steps, 0)
        evaluations = math.ceil(steps / config.eval_every) * min(self._evaluations[1:], default=0.0)
        seconds = steps / config.iteration_steps * self.pace + evaluations
        if config.minutes is None:
            return seconds / 60
        return min(seconds / 60, max(config.minutes - host.wall_minutes, 0.0))
