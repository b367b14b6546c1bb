"""The host loop of a training: chunks of the compiled program, and between them everything else.

One run, or the runs of several seeds side by side: all stand at the same step, and one program moves them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from s5wm.errors import ConfigError
from s5wm.train.log import Row, Sink
from s5wm.train.loop import compiled, train_together
from s5wm.train.processes import from_leader, in_any
from s5wm.train.run import Result, Trainer
from s5wm.train.stop import StopRequest

Chunk = Callable[[], Sequence[Result]]
"""Moves every member of a crew by one chunk."""


@dataclass(frozen=True)
class Member:
    """A run of a crew, and whom it tells."""

    trainer: Trainer
    sink: Sink
    on_evaluation: Callable[[], None]


Crew = Sequence[Member]


def load(
    trainers: Sequence[Trainer], say: Callable[[str], None], accept: Callable[[Path], None] = lambda _: None
) -> None:
    """Begin, or go on from the newest valid checkpoint that all have, unless ``accept`` raises for one of them."""
    found = _newest_of_all(trainers, say)
    for path in found:
        if path is not None:
            accept(path)
    for trainer, path in zip(trainers, found, strict=True):
        trainer.settle(path)
        if path is not None:
            say(f"going on at {trainer.host.env_steps:,} environment steps, from {path}")


def _newest_of_all(trainers: Sequence[Trainer], say: Callable[[str], None]) -> list[Path | None]:
    """An interruption may have come between the saves of several seeds: then the last one that all completed."""
    found = [trainer.newest(say) for trainer in trainers]
    config = trainers[0].config
    while len(set(steps := [0 if path is None else int(path.name) for path in found])) > 1:
        shared = set.intersection(*(set(trainer.checkpoints.steps()) for trainer in trainers))
        among = {step for step in shared if step <= min(steps)}
        if max(steps) > min(steps) + config.checkpoint_every + config.chunk_steps or (
            min(steps) and not among
        ):
            listed = ", ".join(f"{t.directory.path} at {n:,}" for t, n in zip(trainers, steps, strict=True))
            raise ConfigError(
                f"these runs have no checkpoint at the same step ({listed}): go on with each alone, s5wm resume RUN"
            )
        found = [trainer.newest(say, among) for trainer in trainers]
    return found


def fit(crew: Crew) -> bool:
    """Train; True when the budget is used, False when stopped on request.  Always ends with a checkpoint of each."""
    first = crew[0]
    if first.trainer.share >= 1.0:
        first.sink.say(
            "its budget is used up; to go on, train with a larger --env-steps or --minutes and this --run"
        )
        return True
    with StopRequest(first.sink.say) as stop:
        try:
            _train(crew, stop)
        finally:
            # Whatever ends training, the checkpoints that are being written are to be completed.
            for member in crew:
                member.trainer.settle_save(member.sink)
        for member in crew:
            member.trainer.end(member.sink)
    return first.trainer.share >= 1.0


def _train(crew: Crew, stop: StopRequest) -> None:
    first = crew[0].trainer
    chunk = _compile(crew)
    begun, share_then, pieces = time.monotonic(), first.share, dict[str, float]()
    while first.share < 1.0 and not in_any(stop.requested):
        rows = _advance(crew, chunk)
        if rows is None:
            continue
        if len(crew) == 1 and not pieces:
            with first.placement.scope():
                pieces = first.program.time_pieces(first.state)
        eta = {"eta_minutes": _eta(time.monotonic() - begun, share_then, first.share)}
        for member, row in zip(crew, rows, strict=True):
            trainer, sink = member.trainer, member.sink
            shares = trainer.shares(pieces, row) if pieces else {}
            sink.row(row | shares | eta | trainer.evaluate(sink, member.on_evaluation))
            trainer.save_if_due(sink)


def _compile(crew: Crew) -> Chunk:
    trainers, say = [member.trainer for member in crew], crew[0].sink.say
    first = trainers[0]
    say("compiling the training program ...")
    begun = time.monotonic()
    config, given = first.config, (first.program.env, first.program.agent)
    shape = {"length": config.rollout_length, "iterations": config.iterations_per_chunk}
    alone = len(crew) == 1
    program = compiled(first.shardings) if alone else train_together
    state = first.state if alone else [trainer.state for trainer in trainers]
    with first.placement.scope():
        chunk = program.lower(*given, state, **shape).compile()
    say(f"compiled in {time.monotonic() - begun:.0f} s")
    if alone:
        return lambda: [chunk(*given, first.scheduled())]
    return lambda: chunk(*given, [trainer.scheduled() for trainer in trainers])


def _advance(crew: Crew, chunk: Chunk) -> list[Row] | None:
    """A chunk; None when its result was thrown away."""
    begun = time.monotonic()
    results = jax.block_until_ready(chunk())
    seconds = from_leader(time.monotonic() - begun)  # a budget in minutes ends everywhere at once
    taken = [member.trainer.take(result, seconds) for member, result in zip(crew, results, strict=True)]
    rows = [row for row in taken if not isinstance(row, str)]
    if len(rows) == len(crew):
        return rows
    _roll_back(crew, [story if isinstance(story, str) else None for story in taken])
    return None


def _roll_back(crew: Crew, stories: Sequence[str | None]) -> None:
    """All go back to the last good checkpoint; those with no story to tell come the same way again."""
    for member, story in zip(crew, stories, strict=True):
        if story is not None:
            member.trainer.keep_evidence(story, member.sink)
        member.trainer.settle_save(member.sink)
    found = _newest_of_all([member.trainer for member in crew], crew[0].sink.say)
    for member, story, newest in zip(crew, stories, found, strict=True):
        if story is None:
            member.trainer.settle(newest)
        else:
            member.trainer.roll_back(story, newest, member.sink)


def _eta(seconds: float, share_then: float, share_now: float) -> float:
    done = share_now - share_then
    return (1.0 - share_now) / done * seconds / 60 if done > 0 else math.nan
