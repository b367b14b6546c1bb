"""Training of one run directory: state, schedules, evaluations and checkpoints."""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.agents.base import AbstractAgent, AbstractPolicy, MetricSums, NonFiniteGuard
from s5wm.distributed.placement import Placement, place
from s5wm.distributed.processes import from_main_process, gathered, is_main_process
from s5wm.envs.base import AbstractEnv
from s5wm.errors import CorruptError, DivergedError, WriteError
from s5wm.evaluation.result import EvalResult, keep_best, kept_score
from s5wm.runs.checkpoint import Checkpoints, restore
from s5wm.runs.directory import RunDirectory
from s5wm.runs.log import Row, Sink
from s5wm.training.config import TrainConfig
from s5wm.training.curriculum import after_chunk, after_evaluation
from s5wm.training.divergence import RATE, ROLLBACKS, failure_reason, keep_debug_state
from s5wm.training.host import HostState
from s5wm.training.start import begin_with, read_start
from s5wm.training.state import EpisodeSums, TrainState, episode_means, init_train
from s5wm.types import Key

Result = tuple[TrainState[Any], MetricSums, EpisodeSums]
"""Result of a chunk of the training program."""


@dataclass(frozen=True, kw_only=True)
class ChunkTime:
    """Length of a chunk, and the time at its end."""

    iterations: int
    seconds: float
    wall_minutes: float  # of the whole training, see ``Clock``


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is trained and how it is evaluated.

    ``time_pieces`` returns the seconds per iteration of ``collect`` and ``world_model`` when they run alone; None
    where that is not asked for, or the host steps the environments.
    """

    env: AbstractEnv[Any]  # with AutoReset
    agent: AbstractAgent[Any, Any, Any]
    updates_per_iteration: int
    evaluate: Callable[[AbstractPolicy[Any, Any], Key], EvalResult]
    time_pieces: Callable[[TrainState[Any]], dict[str, float]] | None


def abstract_state(program: Program, config: TrainConfig, seed: int) -> TrainState[Any]:
    """Shapes of the whole training state; nothing is allocated."""
    return jax.eval_shape(lambda: init_train(program.env, program.agent, config.num_envs, seed))


class Trainer:
    """Training of one run; ``s5wm.training.fit.fit`` advances it, alone or together with runs of other seeds."""

    def __init__(
        self,
        program: Program,
        config: TrainConfig,
        directory: RunDirectory,
        seed: int,
        placement: Placement = Placement(),  # noqa: B008 - frozen
    ) -> None:
        self.program = program
        self.placement = placement
        self.config = config
        self.directory = directory
        self.seed = seed
        self.checkpoints = Checkpoints(directory.checkpoints, keep=config.keep)
        self.host = HostState()
        self._moved = 0  # environment steps of the latest chunk
        self._share = 0.0  # of the budget, at the end of the latest chunk
        self._state: TrainState[Any] | None = None
        self._config = directory.config.read_bytes()
        self.shardings = placement.shardings(abstract_state(program, config, seed))

    def newest(self, log: Callable[[str], None], among: Collection[int] | None = None) -> Path | None:
        """The newest valid checkpoint, of ``among`` if given.

        Raises ``CorruptError`` where there are some and none is valid.
        """
        found = -1.0
        if is_main_process():
            newest = self.checkpoints.newest(log, among)
            if newest is None and (self.checkpoints.steps() if among is None else among):
                advice = "start a new run" if among is None else "go on with each seed alone, s5wm resume RUN"
                raise CorruptError(f"no checkpoint in {self.checkpoints.folder} is valid; {advice}")
            found = -1.0 if newest is None else float(newest.name)
        found = int(from_main_process(found))
        return None if found < 0 else self.checkpoints.path(found)

    def restore(self, checkpoint: Path | None) -> None:
        """Restore this checkpoint; None: the initial state."""
        if checkpoint is None:
            env, agent = self.program.env, self.program.agent
            state = init_train(env, agent, self.config.num_envs, self.seed, shardings=self.shardings)
            start = read_start(self.directory.start)
            self._state = state if start is None else place(begin_with(state, start), self.shardings)
            self.host = HostState(best=kept_score(self.directory.best))
            self._share = self.progress
            return
        restored, host = restore(checkpoint, abstract_state(self.program, self.config, self.seed))
        self._state = place(restored, self.shardings)
        iterations = host["env_steps"] // self.config.iteration_steps
        self.host = HostState.from_json(
            host,
            weight=float(restored.smoothing_weight),
            updates=iterations * self.program.updates_per_iteration,
        )
        # The policy to beat is the one that is kept: it may be newer than the checkpoint, and the evaluation after
        # training may have replaced it.
        best = kept_score(self.directory.best, unrecorded=self.host.best)
        self.host = replace(self.host, best=best)
        self._share = self.progress

    @property
    def progress(self) -> float:
        """Share of the budget that is used, in [0, 1]."""
        used = self.host.env_steps / self.config.env_steps
        if self.config.minutes is not None:
            used = max(used, self.host.wall_minutes / self.config.minutes)
        return min(used, 1.0)

    @property
    def state(self) -> TrainState[Any]:
        """The training state; call ``restore`` first."""
        assert self._state is not None
        return self._state

    @property
    def smoothing_weight(self) -> float:
        """Present weight of the smoothing reward."""
        return self.host.curriculum.weight

    @property
    def rate_news(self) -> str | None:
        """A notice if learning rates rise again because the budget has grown; else None."""
        was, now = (
            float(jax.device_get(self.state.learner.guard.schedule)),
            self.config.rate_schedule(self.progress),
        )
        if now <= was + 1e-3:
            return None
        return (
            f"of the present budget {self.progress:.0%} is used: learning rates rise from {was:.2g} to {now:.2g} of "
            "their full values and fall again towards its end; the best policy so far is kept"
        )

    def scheduled(self) -> TrainState[Any]:
        """The state for the next chunk, which may donate its buffers."""
        scheduled = (self.smoothing_weight, self.config.rate_schedule(self.progress))
        state = eqx.tree_at(
            lambda s: (s.smoothing_weight, s.learner.guard.schedule),
            self.state,
            tuple(jnp.asarray(value, jnp.float32) for value in scheduled),
        )
        return place(state, self.shardings)

    def apply_chunk_result(self, result: Result, chunk: ChunkTime) -> Row | str:
        """Apply the result of a chunk: returns its row of metrics, or why it is rejected."""
        weight, was = self.smoothing_weight, self.host
        self._state, metrics, sums = result
        self._moved = chunk.iterations * self.config.iteration_steps
        learned, updates = metrics.means, int(jax.device_get(metrics.count))
        self.host = replace(
            was,
            env_steps=was.env_steps + self._moved,
            minutes=was.minutes + chunk.seconds / 60,
            wall_minutes=chunk.wall_minutes,
            updates=was.updates + updates,
        )
        guard: NonFiniteGuard = jax.device_get(self.state.learner.guard)
        if wrong := failure_reason(learned, guard, jax.device_get(sums.faults), self.config.num_envs):
            return f"at {self.host.env_steps:,} environment steps {wrong}"
        episodes = episode_means(sums)
        used, self._share = self.progress - self._share, self.progress
        curriculum = after_chunk(self.config.curriculum, was.curriculum, share=self._share, used=used)
        self.host = replace(self.host, curriculum=curriculum)
        return {
            "env_steps": self.host.env_steps,
            "updates": self.host.updates,
            "minutes": self.host.minutes,
            "wall_minutes": self.host.wall_minutes,
            "env_steps_per_s": self._moved / chunk.seconds,
            "updates_per_s": updates / chunk.seconds,
            **({"smoothing_weight": weight} if self.program.env.spec.has_smoothing else {}),
            "health/skipped": int(guard.skipped),
            "health/rate": float(guard.rate * guard.schedule),
            **episodes,
            **learned,
        }

    def keep_debug_state(self, reason: str, sink: Sink) -> None:
        """Save the debug state before the roll-back."""
        with _forgiving(sink):
            arrays = gathered((self.state.actor.timestep, self.program.agent.debug_state(self.state.learner)))
            if is_main_process():
                kept = keep_debug_state(self.directory.diverged, self.host.env_steps, reason, arrays)
                sink.write_line(f"{reason}; what was seen is in {kept}")

    def give_up_after(self, reason: str) -> None:
        """Raise ``DivergedError`` after too many roll-backs."""
        failures = (*self.host.failures, reason)
        if len(failures) > ROLLBACKS:
            raise DivergedError(
                f"training diverged and rolling back {ROLLBACKS} times did not help: {'; '.join(failures)}. "
                f"The last good checkpoint is kept, what led to it is in {self.directory.diverged}. "
                "Look there, then lower the learning rate in a new run"
            )

    def go_back(self, checkpoint: Path | None, reason: str | None, sink: Sink) -> None:
        """Restore the last checkpoint; if this seed diverged, halve the learning rates and change the key.

        If another seed diverged, ``reason`` is None, and this one replays identically.
        """
        was, rate = self.host, self.state.learner.guard.rate
        failures = was.failures if reason is None else (*was.failures, reason)
        self.restore(checkpoint)
        if reason is None and len(failures) <= len(self.host.failures):
            return
        at = was.failed_at if reason is None else was.env_steps
        self.host = replace(self.host, failures=failures, failed_at=at)
        rate = jnp.minimum(rate, self.state.learner.guard.rate) * (1.0 if reason is None else RATE)
        key = jr.fold_in(
            self.state.key, 2**30 + len(failures)
        )  # the same numbers would lead to the same place
        self._state = eqx.tree_at(lambda s: (s.learner.guard.rate, s.key), self.state, (rate, key))
        if reason is not None:
            sink.write_line(
                f"rolled back to {self.host.env_steps:,} environment steps, learning rates now times {float(rate):g}"
            )

    def shares(self, pieces: dict[str, float], row: Row) -> Row:
        """Shares of the wall time: pieces as measured alone; the rest counts as the actor-critic's."""
        iteration = self.config.iteration_steps / row["env_steps_per_s"]
        shares = {f"time/{name}": min(seconds / iteration, 1.0) for name, seconds in pieces.items()}
        return shares | {"time/actor_critic": max(0.0, 1.0 - sum(shares.values()))}

    def evaluate(self, sink: Sink, on_evaluation: Callable[[], None]) -> Row:
        """Evaluate if it is due; returns the metrics."""
        if not self.is_evaluation_due:
            return {}
        policy = self.placement.local(self.program.agent.policy(self.state.learner))
        key = jr.fold_in(jr.key(self.seed), self.host.env_steps % 2**32)
        judged = self.program.evaluate(policy, key) if is_main_process() else None
        success = from_main_process((judged.success if judged else None) or 0.0)
        curriculum = after_evaluation(
            self.config.curriculum, self.host.curriculum, success=success, share=self.progress
        )
        self.host = replace(self.host, curriculum=curriculum)
        if judged is None:
            return {}
        with _forgiving(sink):
            if self.host.best is None or judged.score > self.host.best:
                keep_best(self.directory.best, policy, judged, self.host.env_steps)
                self.host = replace(self.host, best=judged.score)
            judged.record(self.directory.flights, policy="latest", env_steps=self.host.env_steps)
        sink.write_line(f"evaluated at {self.host.env_steps:,} environment steps: {judged.headline}")
        on_evaluation()
        return judged.row

    @property
    def is_evaluation_due(self) -> bool:
        """Whether an evaluation is due: by its interval, and at the end."""
        return self._is_due(self.config.eval_every) or self.progress >= 1.0

    @property
    def is_save_due(self) -> bool:
        """Whether a checkpoint is due: by its interval, at the end, and with the first evaluation."""
        begun = self.host.env_steps - self._moved
        is_first_evaluation = begun < self.config.eval_every <= self.host.env_steps
        return self._is_due(self.config.checkpoint_every) or is_first_evaluation or self.progress >= 1.0

    def wait_for_save(self, sink: Sink) -> None:
        """Wait for the previous save; it must have completed, or its failure is logged."""
        with _forgiving(sink):
            self.checkpoints.wait()

    def end(self, sink: Sink) -> None:
        """Save a last checkpoint; raises an error that prevents it."""
        if not from_main_process(float(self.host.env_steps in self.checkpoints.steps())):
            self.save(sink)
        self.checkpoints.wait()

    def save(self, sink: Sink) -> None:
        """Start saving a checkpoint, after the previous one."""
        self.wait_for_save(sink)
        if self.host.failures and self.host.env_steps >= self.host.failed_at + self.config.checkpoint_every:
            self.host = replace(self.host, failures=())
        state = gathered(self.state)
        if is_main_process():
            policy = self.program.agent.policy(state.learner)
            self.checkpoints.save(self.host.env_steps, state, asdict(self.host), policy, config=self._config)

    def _is_due(self, every: int) -> bool:
        return self.host.env_steps // every > (self.host.env_steps - self._moved) // every


@contextmanager
def _forgiving(sink: Sink) -> Generator[None]:
    """Log a write that failed; the training goes on."""
    try:
        yield
    except (WriteError, OSError) as error:
        sink.write_line(f"{error}; training goes on")
