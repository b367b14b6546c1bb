"""The host loop of a training: chunks of the compiled program, and between them everything else.

One run, or the runs of several seeds side by side: all stand at the same step, and one program moves them.
"""

import itertools
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from s5wm.distributed.processes import from_main_process, in_any
from s5wm.envs.host import HostEnv
from s5wm.errors import ConfigError, DivergedError, EnvironmentFailedError
from s5wm.runs.elapsed import elapsed
from s5wm.runs.log import Row, Sink
from s5wm.training.clock import Clock
from s5wm.training.config import UNLIMITED, TrainConfig
from s5wm.training.hosted import HostedChunk
from s5wm.training.loop import compiled
from s5wm.training.run import ChunkTime, Result, Trainer
from s5wm.training.state import TrainState
from s5wm.training.stop import StopRequest

Chunk = Callable[[Sequence[TrainState[Any]], int], Sequence[Result]]
"""Advances the states of all seeds by a number of iterations."""


@dataclass(frozen=True)
class SeedRun:
    """One seed's run, and where its messages go."""

    trainer: Trainer
    sink: Sink
    on_evaluation: Callable[[], None]


SeedGroup = Sequence[SeedRun]
Log = Callable[[str], None]


def load(trainers: Sequence[Trainer], log: Log, accept: Callable[[Path], None] = lambda _: None) -> None:
    """Start, or restore the newest valid checkpoint that all seeds have; ``accept`` may raise for one of them."""
    found = _newest(trainers, log)
    for path in found:
        if path is not None:
            accept(path)
    begun = any(trainer.checkpoints.steps() for trainer in trainers)
    for trainer, path in zip(trainers, found, strict=True):
        trainer.restore(path)
        if begun:
            log(f"going on at {trainer.host.env_steps:,} environment steps, from {path or 'the beginning'}")
    _in_step(trainers)


def _newest(trainers: Sequence[Trainer], log: Log) -> list[Path | None]:
    """The newest valid checkpoint; of several trainers the newest that all have.

    An interruption may have come between the saves of several seeds.  Raises ``ConfigError`` where one of them would
    lose more by that.
    """
    alone = [trainer.newest(log) for trainer in trainers]
    if len(trainers) == 1:
        return alone
    found = _shared(trainers, log)
    _check_distance(trainers, alone, found)
    return found


def _in_step(trainers: Sequence[Trainer]) -> None:
    """Give several seeds restored to the same step the same clock, and remove their later checkpoints."""
    if len(trainers) == 1:
        return
    hosts = [trainer.host for trainer in trainers]
    minutes = max(host.minutes for host in hosts)
    wall = max(host.wall_minutes for host in hosts)  # a budget of minutes ends for all at once
    for trainer in trainers:
        trainer.checkpoints.forget_after(trainer.host.env_steps)
        trainer.host = replace(trainer.host, minutes=minutes, wall_minutes=wall)


def _shared(trainers: Sequence[Trainer], log: Log) -> list[Path | None]:
    """The newest checkpoint of each at the newest step where all have a valid one; None: none has any there."""
    among = set.intersection(*(set(trainer.checkpoints.steps()) for trainer in trainers))
    while True:
        found = [trainer.newest(log, among) for trainer in trainers]
        steps = [-1 if path is None else int(path.name) for path in found]
        if len(set(steps)) == 1:
            return found
        among = {step for step in among if step <= min(steps)}


def _check_distance(
    trainers: Sequence[Trainer], alone: Sequence[Path | None], found: Sequence[Path | None]
) -> None:
    config = trainers[0].config
    for trainer, newest, path in zip(trainers, alone, found, strict=True):
        lost = (0 if newest is None else int(newest.name)) - (0 if path is None else int(path.name))
        if lost > config.checkpoint_every + config.chunk_steps:
            raise ConfigError(
                f"{trainer.directory.path} would lose {lost:,} environment steps if it went back to where the other "
                "seeds are: go on with each alone, s5wm resume RUN"
            )


def fit(group: SeedGroup, log: Log, *, may_exit: bool = False) -> bool:
    """Train; True when the budget is used, False when stopped on request.  Always ends with a checkpoint of each.

    With ``may_exit`` a signal ends the process while the training program compiles: there is nothing to save.
    """
    first = group[0].trainer
    if first.progress >= 1.0:
        log("its budget is used up; to go on, train with a larger --env-steps or --minutes and this --run")
        return True
    if news := first.rate_news:
        log(news)
    may_exit &= jax.process_count() == 1  # others would wait for it
    with StopRequest(log, ends_at_once=may_exit) as stop:
        try:
            _train(group, log, stop)
        finally:
            # Checkpoints that are being written are completed, whatever ends the training.
            _each(group, Trainer.wait_for_save)
        _each(group, Trainer.end)
    return first.progress >= 1.0


def _train(group: SeedGroup, log: Log, stop: StopRequest) -> None:
    first = group[0].trainer
    clock = Clock(first.host.wall_minutes)
    if rounding := _rounding(first.config):
        log(rounding)
    chunk = _hosted(group, log, stop) or _compile(group, log, stop)
    try:
        _go_on(group, chunk, clock, log, stop)
    except EnvironmentFailedError as error:
        _keep_failure(group[0], error)
        raise
    finally:
        if isinstance(chunk, HostedChunk):
            chunk.close()


def _keep_failure(member: SeedRun, error: EnvironmentFailedError) -> None:
    """Save the environment's traceback and a checkpoint of the last whole iteration."""
    path, log = member.trainer.directory.failure, member.sink.write_line
    try:
        path.write_text(error.failure_reason, encoding="utf-8")
    except OSError as full:
        log(f"cannot write {path} ({full}); the environment said: {error.failure_reason}")
    else:
        log(f"what the environment said is in {path}")
    member.trainer.end(member.sink)


def _hosted(group: SeedGroup, log: Log, stop: StopRequest) -> HostedChunk | None:
    """The chunk for environments outside of the program; None for others."""
    program, config = group[0].trainer.program, group[0].trainer.config
    if not isinstance(program.env, HostEnv):
        return None
    seed, length = group[0].trainer.seed, config.rollout_length
    chunk = HostedChunk(program.env, program.agent, num_envs=config.num_envs, length=length, seed=seed)
    chunk.tell = log
    chunk.collecting = itertools.chain([elapsed(log, "collecting the first rollout")], chunk.collecting)
    chunk.updating = itertools.chain([_compiling(log, stop, config.minutes)], chunk.updating)
    return chunk


def _go_on(group: SeedGroup, chunk: Chunk, clock: Clock, log: Log, stop: StopRequest) -> None:
    first, pieces = group[0].trainer, dict[str, float]()
    while first.progress < 1.0 and not in_any(stop.requested):
        rows = _advance(group, chunk, clock, log)
        if rows is None:
            continue
        with _saved_on_error(group):
            if len(group) == 1 and not pieces and (time_pieces := first.program.time_pieces) is not None:
                with first.placement.scope():
                    pieces = time_pieces(first.state)
            judged = _evaluate(group, clock)
            eta = {"eta_minutes": clock.eta_minutes(first.config, first.host)}
            for member, row, evaluation in zip(group, rows, judged, strict=True):
                shares = member.trainer.shares(pieces, row) if pieces else {}
                member.sink.write_row(row | shares | eta | evaluation)
            if first.is_save_due:
                _each(
                    group, Trainer.wait_for_save
                )  # so that no two of them are ever more than one save apart
                _each(group, Trainer.save)


def _evaluate(group: SeedGroup, clock: Clock) -> list[Row]:
    """Metrics of each seed's evaluation; none where it is not due.

    The clock is read before, so that no budget of minutes ends unevaluated, and after, as evaluations count in it.
    """
    _read_clock(group, clock)
    is_due = group[0].trainer.is_evaluation_due
    begun = time.monotonic()
    judged = [member.trainer.evaluate(member.sink, member.on_evaluation) for member in group]
    if is_due:
        clock.evaluated(time.monotonic() - begun)
        _read_clock(group, clock)
    return judged


def _read_clock(group: SeedGroup, clock: Clock) -> None:
    """Give all seeds the minutes that the clock shows now."""
    minutes = clock.minutes
    for member in group:
        member.trainer.host = replace(member.trainer.host, wall_minutes=minutes)


@contextmanager
def _saved_on_error(group: SeedGroup) -> Generator[None]:
    """Save what has been learned before an error of an evaluation, a sink or a hook ends the training.

    An error of a chunk or of a roll-back is none of these: it leaves no state that is worth saving.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:  # the others do not know of it, and a save takes all
            try:
                _each(group, Trainer.end)
            except Exception as failed:  # noqa: BLE001 - the first error is the one to raise
                error.add_note(f"no last checkpoint could be saved: {failed}")
        raise


def _rounding(config: TrainConfig) -> str | None:
    """A notice if the budget is not a whole number of iterations; else None."""
    steps = -(-config.env_steps // config.iteration_steps) * config.iteration_steps
    if steps == config.env_steps or config.env_steps >= UNLIMITED:
        return None
    return (
        f"trains {steps:,} environment steps for the {config.env_steps:,} of its budget: whole iterations of "
        f"{config.iteration_steps:,}, {config.rollout_length} steps of {config.num_envs} environments each"
    )


def _each(group: SeedGroup, act: Callable[[Trainer, Sink], None]) -> None:
    """Act on every member, also after an exception of another."""
    with ExitStack() as acts:
        for member in reversed(group):
            acts.callback(act, member.trainer, member.sink)


@contextmanager
def _compiling(log: Log, stop: StopRequest, minutes: float | None) -> Generator[None]:
    """Report while the training program compiles; from then on there is something to save."""
    counts = "" if minutes is None else f"; it counts in the budget of {minutes:g} minutes"
    log(f"compiling the training program (a minute or two on a free core{counts}) ...")
    begun = time.monotonic()
    with elapsed(log, "compiling the training program"):
        yield
    stop.ends_at_once = False
    log(f"compiled in {time.monotonic() - begun:.0f} s")


def _compile(group: SeedGroup, log: Log, stop: StopRequest) -> Chunk:
    first = group[0].trainer
    given, length = (first.program.env, first.program.agent), first.config.rollout_length
    states = [member.trainer.state for member in group]
    with first.placement.scope(), _compiling(log, stop, first.config.minutes):
        lowered = compiled(first.shardings).lower(*given, states, length=length, iterations=np.int32(1))
        chunk = lowered.compile()
    return lambda states, iterations: chunk(*given, states, iterations=np.int32(iterations))


def _advance(group: SeedGroup, chunk: Chunk, clock: Clock, log: Log) -> list[Row] | None:
    """Run a chunk; returns its rows of metrics, or None if it was rolled back."""
    first = group[0].trainer
    _read_clock(group, clock)  # saves and roll-backs take time, too
    iterations = clock.next_chunk(first.config, first.host)
    states = [member.trainer.scheduled() for member in group]
    begun = time.monotonic()
    results = jax.block_until_ready(chunk(states, iterations))
    if isinstance(chunk, HostedChunk):
        iterations = chunk.done
    seconds = from_main_process(time.monotonic() - begun)
    clock.trained(iterations, seconds)
    took = ChunkTime(iterations=iterations, seconds=seconds, wall_minutes=clock.minutes)
    taken = [
        member.trainer.apply_chunk_result(result, took) for member, result in zip(group, results, strict=True)
    ]
    rows = [row for row in taken if not isinstance(row, str)]
    if len(rows) == len(group):
        return rows
    _roll_back(group, [reason if isinstance(reason, str) else None for reason in taken], log)
    return None


def _roll_back(group: SeedGroup, reasons: Sequence[str | None], log: Log) -> None:
    """Roll all seeds back together; healthy seeds replay identically."""
    _each(group, Trainer.wait_for_save)
    failed = [(member, reason) for member, reason in zip(group, reasons, strict=True) if reason is not None]
    for member, reason in failed:
        member.trainer.keep_debug_state(reason, member.sink)
    for member, reason in failed:
        _check_hope(member.trainer, reason, others=len(group) > 1)
    trainers = [member.trainer for member in group]
    for member, reason, newest in zip(group, reasons, _newest(trainers, log), strict=True):
        member.trainer.go_back(newest, reason, member.sink)
    _in_step(trainers)


def _check_hope(trainer: Trainer, reason: str, *, others: bool) -> None:
    try:
        trainer.give_up_after(reason)
    except DivergedError as error:
        if not others:
            raise
        raise DivergedError(
            f"seed {trainer.seed}: {error}. Each of the other seeds can go on alone: s5wm resume RUN"
        ) from error
