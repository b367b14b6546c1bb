"""Budgets end where they were asked to, and the time left is told right."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s5wm.agents.base import AbstractPolicy
from s5wm.evaluation.result import EvalResult
from s5wm.experiments.experiment import Experiment
from s5wm.training import clock as clocks
from s5wm.training import fit as host_loop
from s5wm.training.clock import Clock
from s5wm.training.config import TrainConfig
from s5wm.training.host import HostState
from s5wm.training.loop import train_all
from s5wm.training.run import Result
from s5wm.training.state import TrainState
from s5wm.types import Key

from .conftest import RecordingSink, trained

CONFIG = TrainConfig(num_envs=4, rollout_length=8, iterations_per_chunk=16, env_steps=3200, eval_every=640)


class Time:
    """In place of the module ``time``: passes where it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    for module in (clocks, host_loop):
        monkeypatch.setattr(module, "time", time)
    return time


def test_a_chunk_is_cut_where_the_steps_end() -> None:
    clock = Clock(0.0)
    left = {0: 16, 3200 - 512: 16, 3200 - 511: 16, 3200 - 480: 15, 3199: 1}
    for env_steps, iterations in left.items():
        assert clock.next_chunk(CONFIG, HostState(env_steps=env_steps)) == iterations


def test_a_chunk_is_cut_where_the_minutes_end() -> None:
    clock, config = Clock(0.0), replace(CONFIG, env_steps=10**12, minutes=6.0)
    assert clock.next_chunk(config, HostState()) == 16  # nothing is known yet
    clock.trained(16, 80.0)
    for wall, iterations in {0.0: 16, 5.0: 12, 5.99: 1, 6.5: 1}.items():
        assert clock.next_chunk(config, HostState(wall_minutes=wall)) == iterations


def test_the_time_left_is_that_of_the_steps_and_evaluations_left_at_the_present_pace() -> None:
    clock = Clock(0.0)
    assert math.isnan(clock.eta_minutes(CONFIG, HostState()))
    clock.trained(16, 1600.0)  # before learning begins, a machine may do anything
    for _ in range(10):
        clock.trained(10, 20.0)
    clock.evaluated(90.0)  # compiled, which none of those to come does
    assert clock.eta_minutes(CONFIG, HostState(env_steps=1600)) == pytest.approx(50 * 2.0 / 60)
    clock.evaluated(6.0)
    half = HostState(env_steps=1600)  # 50 iterations and 3 evaluations are left
    assert clock.eta_minutes(CONFIG, half) == pytest.approx((50 * 2.0 + 3 * 6.0) / 60)
    for wall, left in {1.0: 0.5, 9.0: 0.0}.items():
        config = replace(CONFIG, minutes=1.5)
        assert clock.eta_minutes(config, replace(half, wall_minutes=wall)) == pytest.approx(left)


def test_minutes_count_compiling_and_evaluating_and_end_within_an_iteration(
    tiny: Experiment, tmp_path: Path, sink: RecordingSink, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling takes 50 s, an iteration 10 s, an evaluation 5 s."""
    program = tiny.build()

    def compiled(group: host_loop.SeedGroup, *_: Any) -> host_loop.Chunk:
        time.now += 50.0

        def chunk(states: Sequence[TrainState[Any]], iterations: int) -> Sequence[Result]:
            time.now += 10.0 * iterations
            given = (program.env, program.agent)
            return train_all(
                *given, states, length=tiny.train.rollout_length, iterations=np.int32(iterations)
            )

        return chunk

    def evaluate(policy: AbstractPolicy[Any, Any], key: Key) -> EvalResult:
        time.now += 5.0
        return program.evaluate(policy, key)

    monkeypatch.setattr(host_loop, "_compile", compiled)
    timed = replace(tiny, train=replace(tiny.train, env_steps=10**12, minutes=3.0))
    trainer = trained(timed, tmp_path / "run", sink, replace(program, evaluate=evaluate))
    walls = [60.0 * row["wall_minutes"] for row in sink.rows]
    assert walls == pytest.approx([70.0, 90.0, 115.0, 135.0, 160.0, 180.0])
    assert [row["eta_minutes"] for row in sink.rows] == pytest.approx([(180.0 - wall) / 60 for wall in walls])
    assert [60.0 * row["minutes"] for row in sink.rows] == pytest.approx(
        [20.0, 40.0, 60.0, 80.0, 100.0, 120.0]
    )
    assert trainer.progress == 1.0
    assert "eval/success" in sink.rows[-1]
