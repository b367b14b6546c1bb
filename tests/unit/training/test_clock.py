"""Budgets end where they were asked to, and the time left is told right."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.agents.base import AbstractPolicy
from s5wm.evaluation.result import EvalResult
from s5wm.experiments.experiment import Experiment
from s5wm.runs.directory import RunDirectory
from s5wm.training import clock as clocks
from s5wm.training import fit as host_loop
from s5wm.training.clock import Clock
from s5wm.training.config import TrainConfig
from s5wm.training.fit import load
from s5wm.training.host import HostState
from s5wm.training.loop import train_all
from s5wm.training.run import Program, Result, Trainer
from s5wm.training.state import TrainState
from s5wm.types import Key

from .conftest import RecordingSink, alone, trained, with_steps

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


def timed(program: Program, time: Time, monkeypatch: pytest.MonkeyPatch, *, evaluation: float) -> Program:
    """The program, whose compiling takes 50 s, an iteration 10 s, and an evaluation as many as given."""

    def compiled(group: host_loop.SeedGroup, *_: Any) -> host_loop.Chunk:
        time.now += 50.0

        def chunk(states: Sequence[TrainState[Any]], iterations: int) -> Sequence[Result]:
            time.now += 10.0 * iterations
            given, length = (program.env, program.agent), group[0].trainer.config.rollout_length
            return train_all(*given, states, length=length, iterations=np.int32(iterations))

        return chunk

    def evaluate(policy: AbstractPolicy[Any, Any], key: Key) -> EvalResult:
        time.now += evaluation
        return program.evaluate(policy, key)

    monkeypatch.setattr(host_loop, "_compile", compiled)
    return replace(program, evaluate=evaluate)


def with_minutes(experiment: Experiment, minutes: float) -> Experiment:
    return replace(experiment, train=replace(experiment.train, env_steps=10**12, minutes=minutes))


def test_minutes_count_compiling_and_evaluating_and_end_within_an_iteration(
    tiny: Experiment, tmp_path: Path, sink: RecordingSink, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = timed(tiny.build(), time, monkeypatch, evaluation=5.0)
    trainer = trained(with_minutes(tiny, 3.0), tmp_path / "run", sink, program)
    walls = [60.0 * row["wall_minutes"] for row in sink.rows]
    assert walls == pytest.approx([70.0, 90.0, 115.0, 135.0, 160.0, 180.0])
    left = [110.0, 85.0, 65.0, 40.0, 20.0, 0.0]  # after the evaluation, where there is one
    assert [60.0 * row["eta_minutes"] for row in sink.rows] == pytest.approx(left)
    assert [60.0 * row["minutes"] for row in sink.rows] == pytest.approx(
        [20.0, 40.0, 60.0, 80.0, 100.0, 120.0]
    )
    assert trainer.progress == 1.0
    assert "eval/success" in sink.rows[-1]


def test_an_evaluation_that_takes_longer_than_what_is_left_is_the_last(
    tiny: Experiment, tmp_path: Path, sink: RecordingSink, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = timed(tiny.build(), time, monkeypatch, evaluation=100.0)
    trainer = trained(with_minutes(tiny, 3.0), tmp_path / "run", sink, program)
    assert [row["env_steps"] for row in sink.rows] == [64, 128]
    assert "eval/success" in sink.rows[-1] and sink.rows[-1]["eta_minutes"] == 0.0
    assert 60.0 * trainer.host.wall_minutes == pytest.approx(190.0)
    assert trainer.checkpoints.steps() == [64, 128]


def test_a_roll_back_takes_back_no_minutes(
    tiny: Experiment, tmp_path: Path, sink: RecordingSink, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, path = timed(tiny.build(), time, monkeypatch, evaluation=5.0), tmp_path / "run"
    trained(with_steps(tiny, 128), path, sink, program)  # for 95 s
    with RunDirectory(path) as directory:
        trainer = Trainer(program, with_minutes(tiny, 170.0 / 60).train, directory, 0)
        load([trainer], sink.write_line)
        nan = jnp.full(1, jnp.nan, jnp.float32)
        trainer._state = eqx.tree_at(lambda s: s.learner.params.log_std, trainer.state, nan)
        assert alone(trainer, sink)
    assert any("rolled back to 128" in text for text in sink.texts)
    # Compiling and the chunk that is thrown away end at 165 s: one more iteration fits.
    assert [60.0 * row["wall_minutes"] for row in sink.rows[2:]] == pytest.approx([175.0])
    assert "eval/success" in sink.rows[-1]


def test_what_evaluations_take_counts_in_the_rise_of_the_smoothing_weight(
    tiny: Experiment, tmp_path: Path, sink: RecordingSink, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = timed(tiny.build(), time, monkeypatch, evaluation=10.0)
    curriculum = replace(tiny.train.curriculum, earliest=0.0, fallback=0.0, ramp=0.5, success=2.0)
    experiment = with_minutes(replace(tiny, train=replace(tiny.train, curriculum=curriculum)), 4.0)
    trained(experiment, tmp_path / "run", sink, program)
    # Chunks end at 70, 90, 120 and 140 s of 240; the weight rises from 70 s on, to 1 within 120 s.
    weights = [row["smoothing_weight"] for row in sink.rows[:5]]
    assert weights == pytest.approx([0.0, 0.0, 20 / 120, 50 / 120, 70 / 120])
