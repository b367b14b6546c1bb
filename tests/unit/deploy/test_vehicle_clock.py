"""The age of what a vehicle says: drift, latency that changes or does not, clocks that begin again."""

import numpy as np
import pytest

from s5wm.deploy.runtime.vehicle_clock import AGREEING, DRIFT, VehicleClock

AHEAD = 100.0
"""s by which our clock is ahead of the vehicle's."""


def ages(clock, begin, end, latency=0.0, rate=1.0):
    """Ages of messages that are sent every 20 ms and come ``latency`` later; true ones are ``latency``."""
    nows = np.arange(begin, end, 0.02)
    return np.array([now - clock.heard(now, rate * (now - latency) - AHEAD) for now in nows])


@pytest.mark.parametrize("rate", [1.0 - 50e-6, 1.0 + 50e-6])
def test_clocks_that_drift_make_no_estimate_stale(rate):
    assert np.abs(ages(VehicleClock(), 0.0, 1200.0, rate=rate)).max() < 2e-3


def test_a_latency_that_grows_is_seen_for_as_long_as_it_lasts():
    clock = VehicleClock()
    ages(clock, 0.0, 10.0, latency=0.01)
    seen = ages(clock, 10.0, 70.0, latency=0.11)
    assert seen[0] == pytest.approx(0.1, abs=1.1 * DRIFT * 10.0)
    assert seen[-1] == pytest.approx(0.1, abs=1.1 * DRIFT * 70.0)  # a window of 10 s has forgotten it by now
    assert (seen > 0.09).all()


def test_a_latency_that_is_constant_is_seen_by_answers_alone():
    clock = VehicleClock()
    assert np.abs(ages(clock, 0.0, 10.0, latency=0.08)).max() < 1e-3
    clock.answered(10.0, 10.08 - AHEAD, 10.16)
    assert ages(clock, 10.2, 20.0, latency=0.08) == pytest.approx(0.08, abs=2e-3)


@pytest.mark.parametrize(("there", "back"), [(0.08, 0.0), (0.0, 0.08), (0.05, 0.05)])
def test_an_answer_is_off_by_at_most_half_of_its_way(there, back):
    clock = VehicleClock()
    ages(clock, 0.0, 1.0, latency=back)
    clock.answered(1.0, 1.0 + there - AHEAD, 1.0 + there + back)
    assert abs(ages(clock, 1.2, 1.3, latency=back)[-1] - back) <= 0.5 * abs(there - back) + 1e-3


def test_answers_follow_a_clock_that_is_slower_than_any():
    """A simulator that does not keep up with real time."""
    clock, rate = VehicleClock(), 0.98
    for second in range(20):
        seen = ages(clock, second, second + 1.0, rate=rate)
        clock.answered(second + 1.0, rate * (second + 1.0) - AHEAD, second + 1.001)
    assert np.abs(seen).max() < 0.03


def test_answers_of_another_clock_are_ignored():
    clock = VehicleClock()
    ages(clock, 0.0, 1.0, latency=0.02)
    clock.answered(1.0, 1.7e9, 1.01)
    assert np.abs(ages(clock, 1.0, 2.0, latency=0.02)).max() < 1e-3


@pytest.mark.parametrize("off", [-1000.0, -2.0, 0.3, 1000.0])
def test_one_strange_stamp_changes_nothing(off):
    clock = VehicleClock()
    ages(clock, 0.0, 5.0)
    for count in range(AGREEING - 1):
        age = 5.0 - clock.heard(5.0, 5.0 + off - AHEAD)
        assert age == pytest.approx(-off, abs=1e-2), count  # stale, or from the future
    assert np.abs(ages(clock, 5.02, 10.0)).max() < 2e-3


@pytest.mark.parametrize("off", [-50.0, 50.0])
def test_several_that_agree_are_a_clock_that_began_again(off):
    clock = VehicleClock()
    ages(clock, 0.0, 5.0)
    clock.answered(5.0, 5.0 - AHEAD, 5.0)
    nows = 5.02 + 0.02 * np.arange(20)
    seen = np.array([now - clock.heard(now, now + off - AHEAD) for now in nows])
    assert (np.abs(seen[: AGREEING - 1] + off) < 1e-2).all()
    assert np.abs(seen[AGREEING - 1 :]).max() < 1e-3


def test_strange_stamps_that_do_not_agree_are_no_clock():
    clock, draw = VehicleClock(), np.random.default_rng(0)
    ages(clock, 0.0, 5.0)
    for now in 5.02 + 0.02 * np.arange(50):
        clock.heard(now, now - AHEAD - draw.uniform(100.0, 1e6))
    assert np.abs(ages(clock, 6.1, 7.0)).max() < 2e-3
