"""Repeated flights: starts, counting, intervals."""

from dataclasses import asdict

import numpy as np
import pytest

from s5wm.deploy.card import FlightCard
from s5wm.deploy.runtime.engines import OnnxEngine
from s5wm.deploy.runtime.trials import StartNoise, Trial, draw_starts, fly_trial, summary
from s5wm.deploy.simulators import load_simulator, simulator_version
from s5wm.envs.racing.restarts import ResetNoise
from s5wm.errors import ConfigError
from s5wm.evaluation.estimates import wilson


def test_starts_are_those_of_an_evaluation():
    assert asdict(StartNoise()) == asdict(ResetNoise())


def test_starts_lie_near_the_start_pose_and_repeat(exported):
    card = FlightCard.load(exported.folder)
    first, second = draw_starts(card, 30, seed=3), draw_starts(card, 30, seed=3)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.quat, other.quat)
        assert np.abs(one.pos_w - card.track.start_pos).max() <= 0.5 + 1e-6
        assert np.linalg.norm(one.quat) == pytest.approx(1.0)
    assert len({float(body.pos_w[0]) for body in first}) == 30


def test_a_trial_forgets_the_one_before(exported):
    card = FlightCard.load(exported.folder)
    engine = OnnxEngine(exported.folder / "policy.onnx")
    start = draw_starts(card, 1, seed=0)[0]
    first = fly_trial(card, engine, None, start, 3.0)
    assert fly_trial(card, engine, None, start, 3.0) == first
    assert first.gates >= 2
    assert first.held == 0


def test_success_is_three_laps_without_a_crash():
    trials = [
        Trial("TIME_LIMIT", 26, 3, (5.0, 5.2), 20.0, 0),
        Trial("TIME_LIMIT", 15, 2, (9.0,), 20.0, 4),
        Trial("RIM_HIT", 27, 3, (5.0, 5.0), 19.0, 0),
    ]
    metrics = summary(trials)
    assert metrics["successes"] == 1
    assert metrics["lap_mean"] == pytest.approx(5.1)
    assert metrics["endings"] == {"RIM_HIT": 1, "TIME_LIMIT": 2}
    assert metrics["periods_held"] == 4


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"), [(20, 20, 0.839, 1.0), (0, 20, 0.0, 0.161), (10, 20, 0.299, 0.701)]
)
def test_the_interval_of_a_share(successes, count, low, high):
    assert wilson(float(successes), count) == pytest.approx((low, high), abs=1e-3)


def test_an_unknown_simulator_is_named(exported):
    with pytest.raises(ConfigError, match="rotorpy, crazyflow"):
        simulator_version("gazebo")
    with pytest.raises(ConfigError, match="gazebo"):
        load_simulator("gazebo", FlightCard.load(exported.folder).vehicle)
