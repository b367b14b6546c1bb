"""How a flight ends: a vehicle that follows commands is never left without one while it is ours."""

import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from s5wm.cli import deploying
from s5wm.cli.deploying import Fly
from s5wm.deploy.runtime import fly
from s5wm.deploy.runtime.fly import FlightPlan, fly_mavlink, fly_simulated, room_for_flight, run_until_stopped
from s5wm.deploy.runtime.hover import hover_action, level_hover
from s5wm.deploy.runtime.interrupts import Interrupts
from s5wm.deploy.runtime.logbook import Logbook
from s5wm.deploy.runtime.loop import Clock, Loop, SimulatedClock
from s5wm.deploy.runtime.pilot import Control, Mode, Pilot
from s5wm.deploy.runtime.simulation import Simulation
from s5wm.errors import ConfigError, S5wmError

from .test_runtime import CARD, LIMITS, PERIOD, TRACK, VEHICLE, Scripted, Steady

ENGAGED, RELEASED = 50, 200  # periods
COUNT = 100


class Handed(Scripted):
    """A vehicle that a person hands over in period ``ENGAGED`` and takes back in ``RELEASED``."""

    def __init__(self, clock):
        super().__init__(clock, lambda n, state: state)

    @property
    def control(self):
        return Control.OURS if ENGAGED < self.period <= RELEASED else Control.ANOTHER


def flight(*, stop=None, is_live=True):
    """Modes of a flight that somebody stops before period ``stop``; its target and what was said."""
    clock, log, said = SimulatedClock(), Logbook(CARD, LIMITS.deadline), []
    target = Handed(clock)
    loop = Loop(
        Pilot(CARD, Steady(), LIMITS), target, clock, PERIOD, log.add, is_live=is_live, log=said.append
    )
    loop.is_stopped = lambda: stop is not None and target.period >= stop
    loop.run(COUNT * PERIOD)
    return [period.mode for period in log.periods], target, said


def test_time_counts_from_the_first_period_that_is_ours_and_ends_in_a_hover():
    modes, target, said = flight()
    assert modes == (
        [Mode.WAIT] * ENGAGED
        + [Mode.POLICY] * COUNT
        + [Mode.HOVER] * (RELEASED - ENGAGED - COUNT + 1)  # one more until it is known
    )
    np.testing.assert_array_equal(target.sent[-2], level_hover(VEHICLE, target.simulation.read()))
    assert said == ["the flight is over: hovering until somebody takes the vehicle; Ctrl-C ends that at once"]


def test_a_stop_in_flight_ends_in_a_hover_and_a_stop_before_it_at_once():
    modes, _, said = flight(stop=ENGAGED + 10)
    assert modes[ENGAGED:] == [Mode.POLICY] * 10 + [Mode.HOVER] * (RELEASED - ENGAGED - 10 + 1)
    assert len(said) == 1
    modes, _, said = flight(stop=ENGAGED - 10)
    assert modes == [Mode.WAIT] * (ENGAGED - 10)
    assert said == []


@pytest.mark.parametrize(("stop", "periods"), [(None, COUNT), (70, 70)])
def test_where_nobody_follows_commands_time_counts_from_the_start(stop, periods):
    modes, _, said = flight(stop=stop, is_live=False)
    assert len(modes) == periods
    assert said == []


class Broken(Steady):
    """A policy whose step fails from the ``good``-th on."""

    def __init__(self, good):
        super().__init__()
        self.left = good

    def step(self, observation):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no such file")
        return super().step(observation)


def broken(*, is_live, loses_vehicle=False):
    """A flight whose policy fails in its fourth period; its modes, target and what was said."""
    clock, log, said = SimulatedClock(), Logbook(CARD, LIMITS.deadline), []
    target = Handed(clock)
    if loses_vehicle:
        read = target.read

        def lost():
            if target.period > ENGAGED + 5:
                raise OSError("no socket")
            return read()

        target.read = lost
    loop = Loop(
        Pilot(CARD, Broken(3), LIMITS), target, clock, PERIOD, log.add, is_live=is_live, log=said.append
    )
    with pytest.raises(OSError if loses_vehicle else RuntimeError) as caught:
        loop.run(COUNT * PERIOD)
    return [period.mode for period in log.periods], caught.value, said


def test_an_error_of_the_policy_ends_in_a_hover_and_is_raised_when_the_vehicle_is_another_s():
    modes, error, said = broken(is_live=True)
    assert modes[:ENGAGED] == [Mode.WAIT] * ENGAGED
    assert modes[ENGAGED:] == [Mode.POLICY] * 3 + [Mode.HOVER] * (RELEASED - ENGAGED - 3)
    assert str(error) == "no such file"
    assert said == [
        "RuntimeError: no such file: hovering until somebody takes the vehicle; Ctrl-C ends that at once"
    ]


def test_an_error_is_raised_at_once_where_no_vehicle_follows_or_hovering_fails_too():
    modes, _, said = broken(is_live=False)
    assert modes == [Mode.WAIT] * ENGAGED + [Mode.POLICY] * 3
    assert said == []
    modes, error, said = broken(is_live=True, loses_vehicle=True)
    assert modes[ENGAGED:] == [Mode.POLICY] * 3 + [Mode.HOVER] * 2
    assert str(error.__cause__) == "no such file"
    assert len(said) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_remembered_and_the_second_interrupts(number):
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, SIGHUP is ignored
    try:
        with Interrupts() as interrupts:
            assert not interrupts.is_pending()
            os.kill(os.getpid(), number)
            assert interrupts.received is number
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.is_pending()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_flight_that_was_stopped_says_by_what(signals):
    """Whether it hovers until somebody takes the vehicle, or a second signal ends that."""

    class Stopped(Loop):
        def __init__(self):
            pass

        def run(self, seconds):
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGTERM)
            assert self.is_stopped()

    assert run_until_stopped(Stopped(), 1.0) == "SIGTERM"


def test_what_ctrl_c_ends_beside_the_program_is_no_fault_of_the_flight():
    class Firmware(Loop):
        def __init__(self, is_interrupted):
            self.is_interrupted = is_interrupted

        def run(self, seconds):
            if self.is_interrupted:
                os.kill(os.getpid(), signal.SIGINT)
            raise S5wmError("Betaflight has ended")

    assert run_until_stopped(Firmware(True), 1.0) == "SIGINT"
    with pytest.raises(S5wmError, match="has ended"):
        run_until_stopped(Firmware(False), 1.0)


@pytest.fixture
def flyable(monkeypatch):
    """Exports are this card, engines steady."""
    monkeypatch.setattr(fly, "open_export", lambda folder: CARD)
    monkeypatch.setattr(fly, "load_engine", lambda folder, name: Steady())


def test_a_stopped_flight_is_recorded(flyable, monkeypatch, tmp_path, capsys):
    class Interrupted(Steady):
        def step(self, obs):
            if self.steps == 20:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(obs)

    monkeypatch.setattr(fly, "load_engine", lambda folder, name: Interrupted())
    verb = Fly(folder=tmp_path / "export", fast=True, out=tmp_path / "records")
    assert verb.run() == 130
    said = capsys.readouterr()
    assert "SIGINT" in said.out
    assert f"records: {tmp_path / 'records'}" in said.err
    with np.load(tmp_path / "records" / "periods.npz") as periods:
        assert len(periods["time"]) == 20  # the first call of the engine warms it up


def test_folders_of_runs_and_of_flights_are_kept(tmp_path):
    run, flown, new = tmp_path / "run", tmp_path / "flown", tmp_path / "new"
    for folder, file in ((run, "config.json"), (flown, "runtime.json")):
        folder.mkdir()
        (folder / file).write_text("{}")
    for replaces in (True, False):
        with pytest.raises(ConfigError, match=r"--out .*run is a run or a policy"):
            room_for_flight(run, replaces=replaces)
    with pytest.raises(ConfigError, match=r"--out .*flown holds the records of a flight"):
        room_for_flight(flown, replaces=False)
    room_for_flight(flown)
    room_for_flight(new, replaces=False)
    assert new.is_dir()


def test_the_folder_is_checked_before_anything_flies(flyable, monkeypatch, tmp_path):
    def loaded(folder, name):
        raise AssertionError("an engine was built")

    monkeypatch.setattr(fly, "load_engine", loaded)
    (tmp_path / "config.json").write_text("{}")
    plan = FlightPlan(dry_run=True)
    for target in (
        fly_simulated,
        lambda *args, **more: fly_mavlink(args[0], plan, fly.MavlinkLink(), args[2], **more),
    ):
        with pytest.raises(ConfigError, match="is a run or a policy"):
            target(tmp_path, plan, tmp_path, log=print)


def test_live_flights_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    live = Fly(folder=tmp_path / "export", target="mavlink", live=True)
    assert str(live._default_folder()) == "runs/flights/export-live-1"
    (tmp_path / "runs/flights/export-live-1").mkdir(parents=True)
    (tmp_path / "runs/flights/export-live-3").mkdir()
    assert str(live._default_folder()) == "runs/flights/export-live-2"
    assert str(Fly(folder=tmp_path / "export")._default_folder()) == "runs/flights/export-sim"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"repeated": 40}, "40% of the periods had no new estimate"),
        ({"repeated": 5}, None),
        ({"deadline": 5, "handed_over": "deadline"}, "too busy to fly in real time"),
        ({"skipped": 1, "handed_over": "skipped"}, "too busy to fly in real time"),
        ({"deadline": 1}, None),  # and a hover at the end of its time
        ({"missing": 100}, "No ODOMETRY came"),
    ],
)
def test_what_a_flight_says_of_its_problems(counts, words, monkeypatch, tmp_path, capsys):
    handed_over = counts.pop("handed_over", None)
    metrics = {"problems": counts, "periods": 100, "modes": {"hover": 3}, "handed_over": handed_over}
    monkeypatch.setattr(Fly, "_flown", lambda self, out: metrics | {"ending": "TIME_LIMIT"})
    assert Fly(folder=tmp_path).run() == (deploying.CRASHED if "missing" in counts else deploying.DONE)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if words is None else 2)
    assert words is None or words in lines[0]


class Slow(Clock):
    """A clock that a test moves."""

    def __init__(self):
        self.time = 7.0

    def now(self):
        return self.time


FALL = np.float32([-1.0, 0.0, 0.0, 0.0])


def height(simulation):
    return float(simulation.read().pos_w[2])


def test_the_time_before_a_flight_is_not_flown():
    clock = Slow()
    simulation = Simulation(VEHICLE, TRACK, clock)
    simulation._command = FALL
    clock.time += 5.0  # the policy is compiled, memory is locked
    assert height(simulation) == TRACK.start_pos[2]
    simulation.between(clock.time + PERIOD)
    assert TRACK.start_pos[2] - 0.01 < float(simulation.body.pos_w[2]) < TRACK.start_pos[2]


def test_a_pause_is_flown_under_the_command_before_it():
    """And judged on its way: a drone that falls to the ground in a pause does not fly through it."""
    clock = Slow()
    simulation = Simulation(VEHICLE, TRACK, clock)
    begin = height(simulation)
    for _ in range(3):
        simulation.send(level_hover(VEHICLE, simulation.read()))
        simulation.between(clock.time + PERIOD)
        clock.time += PERIOD
    clock.time += 0.2
    assert height(simulation) == pytest.approx(begin, abs=1e-3)  # hovered on
    simulation.send(FALL)
    clock.time += 0.2 + TRACK.action_delay
    assert height(simulation) < begin - 0.05
    clock.time += 9.0
    assert height(simulation) > TRACK.box_lo[2] - 0.5
    assert simulation.ending == "GROUND"


def test_a_command_flies_after_the_delay_of_its_own_sending():
    clock = Slow()
    simulation, flown = Simulation(VEHICLE, replace(TRACK, action_delay=PERIOD), clock), []
    simulation._quad = SimpleNamespace(
        fly=lambda body, action, seconds: flown.append((float(action[0]), round(seconds, 9))) or body
    )
    simulation.read()
    for thrust in (0.1, 0.2):
        clock.time += 0.003  # the policy takes its time
        simulation.send(np.float32([thrust, 0, 0, 0]))
        clock.time += PERIOD - 0.003
        simulation.between(clock.time)
    hover = float(hover_action(VEHICLE)[0])
    for each, expected in zip(flown, [(hover, 0.02), (hover, 0.003), (0.1, 0.017)], strict=True):
        assert each == pytest.approx(expected, abs=1e-6)


def test_a_camera_policy_is_refused_before_the_firmware_starts(monkeypatch, tmp_path):
    from s5wm.deploy.firmware import flight as firmware

    def started():
        raise AssertionError("the firmware was looked for")

    image = replace(CARD, observation=replace(CARD.observation, layout="image"))
    monkeypatch.setattr(firmware, "open_export", lambda folder: image)
    monkeypatch.setattr(firmware, "find_firmware", started)
    with pytest.raises(ConfigError, match="it has no camera"):
        firmware.fly_firmware(tmp_path, FlightPlan(), tmp_path / "out", log=print)
    assert not (tmp_path / "out").exists()
