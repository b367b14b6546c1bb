"""Who commands when something is wrong: the values that are sent, and what it takes before the policy flies again."""

from dataclasses import replace

import numpy as np
import pytest

from s5wm.deploy.runtime.hover import hover_action, level_hover
from s5wm.deploy.runtime.logbook import Logbook, Outcome
from s5wm.deploy.runtime.loop import Loop, SimulatedClock
from s5wm.deploy.runtime.pilot import Control, Mode, Pilot

from .test_runtime import CARD, LIMITS, PERIOD, VEHICLE, Scripted, Steady, bad, flown, state_at

RACING = np.float32([0.9, 0.8, -0.7, 0.6])
HOVER = hover_action(VEHICLE)


class Racing(Steady):
    """Commands what no drone should keep for half a second."""

    def step(self, obs):
        self.steps += 1
        self.memory[:] = RACING
        return self.memory.copy()


def racing_pilot(time=0.0):
    """A pilot, and the time at which its policy has flown for half a second."""
    pilot = Pilot(replace(CARD, action_slew=(2.0,) * 4), Racing(), LIMITS)
    for _ in range(25):
        pilot.flown(pilot.decide(state_at(time), time))
        time += PERIOD
    np.testing.assert_array_equal(pilot.last, RACING)
    return pilot, time


def decided(pilot, show, control, periods, time):
    """Decisions of consecutive periods, and the time after them."""
    decisions = []
    for _ in range(periods):
        state = show(time)
        is_ours = control is Control.OURS
        decisions.append(pilot.decide(state, time) if is_ours else pilot.wait(state, time, control))
        pilot.flown(decisions[-1])
        time += PERIOD
    return decisions, time


def lost(time):
    return None


def tilted(time):
    return state_at(time, quat=np.array([np.cos(0.2), np.sin(0.2), 0.0, 0.0]))


def test_without_an_attitude_it_hovers_at_zero_rates_and_falls_silent():
    target, log, _ = flown(lambda n, state: state if n < 10 else None, periods=60, engine=Racing())
    modes = [period.mode for period in log.periods]
    blind = round(LIMITS.silence / PERIOD)
    assert modes[10:14] == [Mode.HOLD] * 4
    assert set(modes[14 : 9 + blind]) == {Mode.OPEN_LOOP}
    assert set(modes[11 + blind :]) == {Mode.SILENT}
    for sent, mode in zip(target.sent, modes, strict=True):
        if mode is Mode.OPEN_LOOP:
            np.testing.assert_array_equal(sent, HOVER)
        assert (sent is None) == (mode is Mode.SILENT)
    silent = next(period.time for period in log.periods if period.mode is Mode.SILENT)
    assert silent - 10 * PERIOD == pytest.approx(LIMITS.silence, abs=PERIOD)


@pytest.mark.parametrize("control", [Control.ANOTHER, Control.FAILSAFE])
def test_silence_lasts_until_the_vehicle_is_disarmed(control):
    pilot, time = racing_pilot()
    silent, time = decided(pilot, lost, Control.OURS, 30, time)
    assert silent[-1].mode is Mode.SILENT
    for who, show in ((Control.OURS, tilted), (control, lost), (control, tilted), (Control.OURS, tilted)):
        decisions, time = decided(pilot, show, who, 30, time)
        assert {decision.mode for decision in decisions} == {Mode.SILENT}
        assert {decision.action for decision in decisions} == {None}
    _, time = decided(pilot, tilted, Control.DISARMED, 1, time)
    decisions, time = decided(pilot, state_at, control, 2, time)
    if control is Control.ANOTHER:
        decisions, time = decided(pilot, state_at, Control.OURS, 2, time)
        assert [decision.mode for decision in decisions] == [Mode.POLICY] * 2
    assert pilot.target == 0


def test_a_hover_lasts_until_the_vehicle_is_disarmed():
    pilot, time = racing_pilot()
    hovering, time = decided(pilot, lambda now: bad(tilted(now)), Control.OURS, 10, time)
    assert [decision.mode for decision in hovering] == [Mode.HOLD] * 4 + [Mode.HOVER] * 6
    for control in (Control.ANOTHER, Control.OURS):
        decisions, time = decided(pilot, tilted, control, 30, time)
        assert {decision.mode for decision in decisions} == {Mode.HOVER}
        np.testing.assert_array_equal(decisions[-1].action, level_hover(VEHICLE, tilted(time)))
    _, time = decided(pilot, tilted, Control.DISARMED, 1, time)
    decisions, _ = decided(pilot, tilted, Control.OURS, 1, time)
    assert decisions[0].mode is Mode.POLICY


def test_a_failsafe_of_the_flight_controller_ends_the_flight_of_the_policy():
    """PX4 goes back to OFFBOARD by itself once commands come again."""
    pilot, time = racing_pilot()
    _, time = decided(pilot, state_at, Control.FAILSAFE, 1, time)
    decisions, time = decided(pilot, state_at, Control.OURS, 30, time)
    assert {decision.mode for decision in decisions} == {Mode.HOVER}


def test_a_person_who_takes_over_gives_the_policy_back_its_place():
    pilot, time = racing_pilot()
    waiting, time = decided(pilot, tilted, Control.ANOTHER, 5, time)
    assert {decision.mode for decision in waiting} == {Mode.WAIT}
    decisions, _ = decided(pilot, state_at, Control.OURS, 1, time)
    assert decisions[0].mode is Mode.POLICY


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (None, "missing"),
        ({"quat": np.full(4, np.nan)}, "not_finite"),
        ({"quat": np.zeros(4)}, "quaternion"),
        ({"time": -1.0}, "stale"),
        ({"omega_b": np.full(3, 99.0)}, "out_of_range"),
    ],
)
def test_while_waiting_nothing_is_sent_without_an_attitude(changes, problem):
    pilot, time = racing_pilot()
    state = None if changes is None else replace(state_at(time), **changes)
    decision = pilot.wait(state, time)
    assert (decision.mode, decision.action, decision.problem) == (Mode.WAIT, None, problem)
    held = pilot.decide(None, time + PERIOD)
    assert held.mode is Mode.HOLD
    np.testing.assert_array_equal(held.action, HOVER)  # not the command of the flight before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"pos_w": np.full(3, np.nan)}, "not_finite"),
        ({"pos_w": np.array([0.0, 0.0, 500.0])}, "out_of_range"),
    ],
)
def test_while_waiting_problems_of_the_position_are_named(changes, problem):
    pilot, time = racing_pilot()
    state = replace(tilted(time), **changes)
    for _ in range(2):  # the second is no repeated one: nothing is kept of what came while waiting
        decision = pilot.wait(state, time)
        assert (decision.mode, decision.problem) == (Mode.WAIT, problem)
        np.testing.assert_array_equal(decision.action, level_hover(VEHICLE, state))


@pytest.mark.parametrize(("share", "last"), [(0.05, Mode.POLICY), (1.0, Mode.HOVER)])
def test_missed_deadlines_hold_and_then_hand_over(share, last):
    clock = SimulatedClock()
    engine = Steady(clock=clock)
    rng = np.random.default_rng(0)

    def show(n, state):
        engine.cost = 0.004 if n > 5 and rng.random() < share else 0.0005
        return state

    target, log, _ = flown(show, periods=100, engine=engine, clock=clock)
    late = [p for p in log.periods if p.problem == "deadline"]
    assert late
    for period in late:
        index = log.periods.index(period)
        assert period.mode in (Mode.HOLD, Mode.HOVER)
        if period.mode is Mode.HOLD:
            np.testing.assert_array_equal(target.sent[index], target.sent[index - 1])
    assert log.periods[-1].mode is last
    assert log.summary(Outcome("TIME_LIMIT", 0, ()))["deadline_misses"] == len(
        [p for p in log.periods if p.latency > LIMITS.deadline]
    )


@pytest.mark.parametrize(
    ("seconds", "skipped", "modes", "problem"),
    [
        (0.0605, 2, [Mode.POLICY, Mode.POLICY], None),
        (0.067, 2, [Mode.HOLD, Mode.POLICY], "deadline"),
        (0.1005, 4, [Mode.POLICY, Mode.POLICY], None),
        (0.107, 4, [Mode.HOVER, Mode.HOVER], "deadline"),
        (0.1205, 5, [Mode.HOVER, Mode.HOVER], "skipped"),
        (0.9005, 44, [Mode.HOVER, Mode.HOVER], "skipped"),
    ],
)
def test_skipped_periods_count_as_missed(seconds, skipped, modes, problem):
    """A process that was stopped for the time of five periods hands over, as one that is late five times does."""
    clock = SimulatedClock()

    class Paused(Loop):
        def _once(self, begin, start, skipped):
            period = super()._once(begin, start, skipped)
            if round(period.time / PERIOD) == 10:
                clock.wait_until(clock.now() + seconds)
            return period

    target, log = Scripted(clock, lambda n, state: state), Logbook(CARD, LIMITS.deadline)
    Paused(Pilot(CARD, Steady(), LIMITS), target, clock, PERIOD, log.add).run(80 * PERIOD)
    assert [period.skipped for period in log.periods if period.skipped] == [skipped]
    assert [period.mode for period in log.periods[:11]] == [Mode.POLICY] * 11
    assert [period.mode for period in log.periods[11:]] == modes[:1] + modes[1:] * (80 - skipped - 12)
    assert log.periods[11].problem == problem
    times = np.array([period.time for period in log.periods])
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(times / PERIOD, np.round(times / PERIOD), atol=1e-6)
