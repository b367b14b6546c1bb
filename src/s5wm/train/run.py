"""The host loop of a training: chunks of the compiled program, and between them everything else."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.agents.base import AbstractAgent, AbstractPolicy, Guard
from s5wm.envs.base import AbstractEnv
from s5wm.errors import CorruptError, DivergedError, WriteError
from s5wm.train.best import Judgement, keep_best
from s5wm.train.checkpoint import Checkpoints, restore
from s5wm.train.config import TrainConfig
from s5wm.train.curriculum import after_chunk, after_evaluation, smoothing_weight
from s5wm.train.directory import RunDirectory
from s5wm.train.divergence import RATE, ROLLBACKS, keep_evidence, trouble
from s5wm.train.host import HostState
from s5wm.train.log import Row, Sink
from s5wm.train.loop import compiled
from s5wm.train.placement import Placement, place
from s5wm.train.processes import from_leader, gathered, in_any, leads
from s5wm.train.state import EpisodeSums, TrainState, init_train
from s5wm.train.stop import StopRequest
from s5wm.types import Key, Metrics


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is trained, how it is judged, and how its time is divided.

    ``evaluate`` flies a policy.  ``time_pieces`` gives the seconds per iteration of ``collect`` and ``world_model``
    when they run alone.
    """

    env: AbstractEnv[Any]  # with AutoReset
    agent: AbstractAgent[Any, Any, Any]
    updates_per_iteration: int
    evaluate: Callable[[AbstractPolicy[Any, Any], Key], Judgement]
    time_pieces: Callable[[TrainState[Any]], dict[str, float]]


def abstract_state(program: Program, config: TrainConfig, seed: int) -> TrainState[Any]:
    """Shapes of the whole training state; nothing is allocated."""
    return jax.eval_shape(lambda: init_train(program.env, program.agent, config.num_envs, seed))


class Trainer:
    """One process's share of a training; ``fit`` runs it to the end of its budget or to a request to stop."""

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
        self.state: TrainState[Any] | None = None
        self._config = directory.config.read_bytes()
        self._shardings = placement.shardings(abstract_state(program, config, seed))

    def load(self, say: Callable[[str], None], accept: Callable[[Path], None] = lambda _: None) -> None:
        """Begin, or go on from the newest valid checkpoint, unless ``accept`` raises for it."""
        newest = self._newest(say)
        if newest is not None:
            accept(newest)
        self._settle_state(newest)
        if newest is not None:
            say(f"going on at {self.host.env_steps:,} environment steps, from {newest}")

    def _newest(self, say: Callable[[str], None]) -> Path | None:
        found = -1.0
        if leads():
            newest = self.checkpoints.newest(say)
            if newest is None and self.checkpoints.steps():
                raise CorruptError(f"no checkpoint in {self.checkpoints.folder} is valid; start a new run")
            found = -1.0 if newest is None else float(newest.name)
        found = int(from_leader(found))
        return None if found < 0 else self.checkpoints.path(found)

    def _settle_state(self, checkpoint: Path | None) -> None:
        if checkpoint is None:
            env, agent = self.program.env, self.program.agent
            self.state = init_train(env, agent, self.config.num_envs, self.seed, shardings=self._shardings)
            self.host = HostState()
            return
        restored, host = restore(checkpoint, abstract_state(self.program, self.config, self.seed))
        self.state = place(restored, self._shardings)
        self.host = HostState.from_json(host)

    @property
    def share(self) -> float:
        """Of the budget that is used, in [0, 1]."""
        used = self.host.env_steps / self.config.env_steps
        if self.config.minutes is not None:
            used = max(used, self.host.minutes / self.config.minutes)
        return min(used, 1.0)

    def fit(self, sink: Sink, on_evaluation: Callable[[], None]) -> bool:
        """Train; True when the budget is used, False when stopped on request.  Always ends with a checkpoint."""
        if self.share >= 1.0:
            sink.say(
                "its budget is used up; to go on, train with a larger --env-steps or --minutes and this --run"
            )
            return True
        with StopRequest(sink.say) as stop:
            try:
                self._train(stop, sink, on_evaluation)
            finally:
                # Whatever ends training, the checkpoint that is being written is to be completed.
                self._settle_save(sink)
            if not from_leader(float(self.host.env_steps in self.checkpoints.steps())):
                self._save(sink)
            self.checkpoints.wait()
        return self.share >= 1.0

    def _train(self, stop: StopRequest, sink: Sink, on_evaluation: Callable[[], None]) -> None:
        chunk = self._compile(sink)
        begun, share_then, pieces = time.monotonic(), self.share, dict[str, float]()
        while self.share < 1.0 and not in_any(stop.requested):
            before = self.host.env_steps
            row = self._chunk(chunk, sink)
            if row is None:
                continue
            if not pieces:
                with self.placement.scope():
                    pieces = self.program.time_pieces(self._state)
            row |= self._shares(pieces, row)
            row["eta_minutes"] = _eta(time.monotonic() - begun, share_then, self.share)
            row |= self._evaluate(before, sink, on_evaluation)
            sink.row(row)
            if self._is_due(before, self.config.checkpoint_every) or self.share >= 1.0:
                self._save(sink)

    @property
    def _state(self) -> TrainState[Any]:
        assert self.state is not None, "load() comes first"
        return self.state

    def _compile(self, sink: Sink) -> Callable[..., tuple[TrainState[Any], Metrics, EpisodeSums]]:
        sink.say("compiling the training program ...")
        begun = time.monotonic()
        shape = {"length": self.config.rollout_length, "iterations": self.config.iterations_per_chunk}
        program = compiled(self._shardings)
        with self.placement.scope():
            chunk = program.lower(self.program.env, self.program.agent, self._state, **shape).compile()
        sink.say(f"compiled in {time.monotonic() - begun:.0f} s")
        return chunk

    def _chunk(
        self, chunk: Callable[..., tuple[TrainState[Any], Metrics, EpisodeSums]], sink: Sink
    ) -> Row | None:
        """Train; None when the result was thrown away."""
        weight = smoothing_weight(self.config.curriculum, self.host.curriculum, share=self.share)
        scheduled = (weight, self.config.rate_schedule(self.share))
        state = eqx.tree_at(
            lambda s: (s.smoothing_weight, s.learner.guard.schedule),
            self._state,
            tuple(jnp.asarray(value, jnp.float32) for value in scheduled),
        )
        state = place(state, self._shardings)
        begun = time.monotonic()
        self.state, metrics, sums = jax.block_until_ready(chunk(self.program.env, self.program.agent, state))
        seconds = from_leader(time.monotonic() - begun)  # a budget in minutes ends everywhere at once
        steps = self.config.chunk_steps
        self.host = replace(
            self.host, env_steps=self.host.env_steps + steps, minutes=self.host.minutes + seconds / 60
        )
        learned = {name: float(value) for name, value in jax.device_get(metrics).items()}
        guard: Guard = jax.device_get(self._state.learner.guard)
        if wrong := trouble(learned, guard, jax.device_get(sums.faults), self.config.num_envs):
            self._roll_back(wrong, sink)
            return None
        episodes = _episode_means(sums)
        laps = episodes.get("episode/laps")
        curriculum = after_chunk(self.config.curriculum, self.host.curriculum, laps=laps, share=self.share)
        self.host = replace(self.host, curriculum=curriculum)
        updates = self.program.updates_per_iteration
        return {
            "env_steps": self.host.env_steps,
            "updates": self.host.env_steps // steps * self.config.iterations_per_chunk * updates,
            "minutes": self.host.minutes,
            "env_steps_per_s": steps / seconds,
            "updates_per_s": self.config.iterations_per_chunk * updates / seconds,
            "smoothing_weight": weight,
            "health/skipped": int(guard.skipped),
            "health/rate": float(guard.rate * guard.schedule),
            **episodes,
            **learned,
        }

    def _roll_back(self, wrong: str, sink: Sink) -> None:
        """Go back to the last good state with a lower learning rate and other random numbers, or give up."""
        at, failed = self.host.env_steps, self._state
        story = f"at {at:,} environment steps {wrong}"
        with _forgiving(sink):
            arrays = (failed.actor.timestep, self.program.agent.evidence(failed.learner))
            arrays = gathered(arrays)
            if leads():
                kept = keep_evidence(self.directory.diverged, at, story, arrays)
                sink.say(f"{story}; what was seen is in {kept}")
        failures = (*self.host.failures, story)
        self._settle_save(sink)
        if len(failures) > ROLLBACKS:
            raise DivergedError(
                f"training diverged and rolling back {ROLLBACKS} times did not help: {'; '.join(failures)}. "
                f"The last good checkpoint is kept, evidence is in {self.directory.diverged}. "
                "Look there, then lower the learning rate in a new run"
            )
        best = self.host.best  # whose policy was good, and stays where it is
        self._settle_state(self._newest(sink.say))
        self.host = replace(self.host, best=best, failures=failures, failed_at=at)
        state = self._state
        rate = RATE * jnp.minimum(failed.learner.guard.rate, state.learner.guard.rate)
        key = jr.fold_in(state.key, len(failures))  # the same numbers would lead to the same place
        self.state = eqx.tree_at(lambda s: (s.learner.guard.rate, s.key), state, (rate, key))
        sink.say(
            f"rolled back to {self.host.env_steps:,} environment steps, learning rates now times {float(rate):g}"
        )

    def _shares(self, pieces: dict[str, float], row: Row) -> Row:
        """Shares of the wall time: pieces as measured alone, and what they leave is the actor-critic's."""
        iteration = self.config.num_envs * self.config.rollout_length / row["env_steps_per_s"]
        shares = {f"time/{name}": min(seconds / iteration, 1.0) for name, seconds in pieces.items()}
        return shares | {"time/actor_critic": max(0.0, 1.0 - sum(shares.values()))}

    def _evaluate(self, before: int, sink: Sink, on_evaluation: Callable[[], None]) -> Row:
        if not (self._is_due(before, self.config.eval_every) or self.share >= 1.0):
            return {}
        policy = self.placement.local(self.program.agent.policy(self._state.learner))
        key = jr.fold_in(jr.key(self.seed), self.host.env_steps % 2**32)
        judged = self.program.evaluate(policy, key) if leads() else None
        success = from_leader(judged.success if judged else 0.0)
        curriculum = after_evaluation(
            self.config.curriculum, self.host.curriculum, success=success, share=self.share
        )
        self.host = replace(self.host, curriculum=curriculum)
        if judged is None:
            return {}
        with _forgiving(sink):
            if self.host.best is None or judged.score > self.host.best:
                keep_best(self.directory.best, policy, judged, self.host.env_steps)
                self.host = replace(self.host, best=judged.score)
            judged.save_flights(self.directory.flights)
        sink.say(f"evaluated at {self.host.env_steps:,} environment steps: {judged.headline}")
        on_evaluation()
        return judged.row

    def _save(self, sink: Sink) -> None:
        """Begin a checkpoint; that of before must be complete, or told to have failed."""
        self._settle_save(sink)
        if self.host.failures and self.host.env_steps >= self.host.failed_at + self.config.checkpoint_every:
            self.host = replace(self.host, failures=())
        state = gathered(self._state)
        if leads():
            policy = self.program.agent.policy(state.learner)
            self.checkpoints.save(self.host.env_steps, state, asdict(self.host), policy, config=self._config)

    def _settle_save(self, sink: Sink) -> None:
        with _forgiving(sink):
            self.checkpoints.wait()

    def _is_due(self, before: int, every: int) -> bool:
        return self.host.env_steps // every > before // every


@contextmanager
def _forgiving(sink: Sink) -> Generator[None]:
    """What cannot be written now is told, and no reason to lose a training."""
    try:
        yield
    except (WriteError, OSError) as error:
        sink.say(f"{error}; training goes on")


def _episode_means(sums: EpisodeSums) -> Row:
    """Means over the episodes that ended; what no episode had (a lap time) is left out."""
    count = float(sums.count)
    if count == 0:
        return {"episode/count": 0.0}
    means = {f"episode/{name}": float(np.asarray(total)) / count for name, total in sums.metrics.items()}
    return {"episode/count": count} | {k: v for k, v in means.items() if math.isfinite(v)}


def _eta(seconds: float, share_then: float, share_now: float) -> float:
    done = share_now - share_then
    return (1.0 - share_now) / done * seconds / 60 if done > 0 else math.nan
