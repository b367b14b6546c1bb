"""MAVLink: frames and signs, who may fly, and that a dry run says nothing."""

import socket
from dataclasses import replace

import numpy as np
import pytest

from s5wm.deploy.runtime.guard import Limits
from s5wm.deploy.runtime.hover import GRAVITY, hover_action
from s5wm.deploy.runtime.loop import Loop, SimulatedClock
from s5wm.deploy.runtime.mavlink import ClockOffset, MavlinkTarget, state_of
from s5wm.deploy.runtime.pilot import Control, Mode, Pilot
from s5wm.deploy.runtime.plant import Quadrotor
from s5wm.deploy.runtime.state import to_matrix
from s5wm.errors import ConfigError

from .test_runtime import CARD, PERIOD, TRACK, VEHICLE, Steady

common = pytest.importorskip("pymavlink.dialects.v20.common")

OFFBOARD, MANUAL = 6 << 16, 1 << 16


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return udp.getsockname()[1]


class Vehicle:
    """The other end: a quadrotor that speaks MAVLink with axes of its own."""

    def __init__(self, port):
        self.link = common.MAVLink(None, srcSystem=1, srcComponent=1)
        self.port = port
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        self.quad = Quadrotor(VEHICLE)
        self.body = self.quad.at_rest(TRACK.start_pos, 0.5)

    def send(self, message):
        self.udp.sendto(message.pack(self.link), ("127.0.0.1", self.port))

    def heartbeat(self, mode, armed=True):
        self.send(common.MAVLink_heartbeat_message(2, 12, 128 * armed, mode, 4, 3))

    def odometry(self, time):
        w, x, y, z = self.body.quat
        vel = to_matrix(self.body.quat).T @ self.body.vel_w
        (p, q, r), pos = self.body.omega_b, self.body.pos_w
        fields = [int(1e6 * time), 1, 12, pos[0], -pos[1], -pos[2], [w, x, -y, -z], vel[0], -vel[1], -vel[2]]
        self.send(common.MAVLink_odometry_message(*fields, p, -q, -r, [0.0] * 21, [0.0] * 21))

    def heard(self):
        messages = []
        while True:
            try:
                messages += self.link.parse_buffer(bytearray(self.udp.recv(2048))) or []
            except BlockingIOError:
                return messages

    def obey(self, message, seconds):
        rates = np.array([message.body_roll_rate, -message.body_pitch_rate, -message.body_yaw_rate])
        newton = message.thrust * VEHICLE.mass * GRAVITY / 0.5
        action = np.concatenate(
            [[newton / (2.0 * VEHICLE.thrust_max) - 1.0], rates / np.array(VEHICLE.rate_max)]
        )
        self.body = self.quad.fly(self.body, action, seconds)


@pytest.fixture
def both():
    port, clock = free_port(), SimulatedClock()
    vehicle = Vehicle(port)
    target = MavlinkTarget(VEHICLE, clock, ("127.0.0.1", port), hover_throttle=0.5, sends=True)
    yield vehicle, target, clock
    target.close()
    vehicle.udp.close()


def test_odometry_is_seen_in_our_axes(both):
    vehicle, target, _ = both
    rng = np.random.default_rng(0)
    quat = rng.normal(size=4)
    vehicle.body = replace(
        vehicle.body,
        pos_w=np.array([1.0, 2.0, 3.0]),
        vel_w=np.array([4.0, -5.0, 6.0]),
        quat=quat / np.linalg.norm(quat),
        omega_b=np.array([0.1, 0.2, 0.3]),
    )
    assert target.read() is None
    vehicle.odometry(1.0)
    seen = target.read()
    for name in ("pos_w", "vel_w", "quat", "omega_b"):
        np.testing.assert_allclose(getattr(seen, name), getattr(vehicle.body, name), atol=1e-5)
    assert target.read() is seen  # until another comes: the check will call it repeated


def test_velocities_may_come_in_world_axes():
    message = common.MAVLink_odometry_message(
        0, 1, 1, 0, 0, 0, [0.5, 0.5, 0.5, 0.5], 1.0, 2.0, 3.0, 0, 0, 0, [0.0] * 21, [0.0] * 21
    )
    np.testing.assert_allclose(state_of(message, 0.0).vel_w, [1.0, -2.0, -3.0])


def test_commands_have_the_signs_of_frd(both):
    vehicle, target, _ = both
    vehicle.odometry(0.0)
    target.read()
    target.send(hover_action(VEHICLE) + np.float32([0, 0.1, 0.2, 0.3]))
    (message,) = vehicle.heard()
    assert message.get_type() == "SET_ATTITUDE_TARGET"
    assert message.type_mask == 128
    assert message.thrust == pytest.approx(0.5)
    rates = (message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate)
    assert rates == pytest.approx((1.0, -2.0, -1.2))
    target.send(np.float32([1, 0, 0, 0]))
    assert vehicle.heard()[0].thrust == 1.0


def test_a_dry_run_and_an_unknown_vehicle_hear_nothing(both):
    vehicle, target, clock = both
    target.send(hover_action(VEHICLE))
    assert target.sent == 0
    port = free_port()
    dry = MavlinkTarget(VEHICLE, clock, ("127.0.0.1", port), hover_throttle=0.5, sends=False)
    vehicle.port = port
    vehicle.odometry(0.0)
    assert dry.read() is not None
    dry.send(hover_action(VEHICLE))
    dry.close()
    assert (dry.sent, vehicle.heard()) == (0, [])


def test_the_policy_waits_until_a_person_hands_over(both):
    vehicle, target, clock = both
    engine, periods, number = Steady(), [], 0

    class Together:
        is_over = False

        @property
        def control(self):
            return target.control

        def read(self):
            vehicle.odometry(clock.now() + 5.0)  # its clock is another
            return target.read()

        def send(self, action):
            target.send(action)

        def between(self, until):
            nonlocal number
            number += 1
            vehicle.heartbeat(OFFBOARD if number >= 10 else MANUAL)
            for message in vehicle.heard():
                vehicle.obey(message, PERIOD)

    Loop(Pilot(CARD, engine, Limits()), Together(), clock, PERIOD, periods.append).run(30 * PERIOD)
    modes = [period.mode for period in periods]
    assert modes[:10] == [Mode.WAIT] * 10
    assert set(modes[12:]) == {Mode.POLICY}
    assert abs(vehicle.body.pos_w[2] - TRACK.start_pos[2]) < 0.3


def test_addresses_and_throttles_that_cannot_be_are_refused(both):
    _, target, clock = both
    port = target._socket.getsockname()[1]
    with pytest.raises(ConfigError, match=f"--address 127.0.0.1:{port} cannot be used"):
        MavlinkTarget(VEHICLE, clock, ("127.0.0.1", port), hover_throttle=0.5, sends=False)
    with pytest.raises(ConfigError, match=r"--hover-throttle is 1\.0"):
        MavlinkTarget(VEHICLE, clock, ("127.0.0.1", 0), hover_throttle=1.0, sends=False)


def test_components_that_are_no_autopilot_are_not_listened_to(both):
    """A gimbal's heartbeat does not end a flight, and an estimate of another computer is not the vehicle's."""
    vehicle, target, _ = both
    vehicle.heartbeat(6 << 16)
    vehicle.odometry(1.0)
    seen = target.read()
    assert target.control is Control.OURS and seen is not None
    vehicle.link = common.MAVLink(None, srcSystem=1, srcComponent=154)
    vehicle.heartbeat(0, armed=False)
    vehicle.odometry(2.0)
    assert target.read() is seen and target.control is Control.OURS


def test_one_vehicle_of_several_on_a_port_is_flown(both):
    vehicle, target, clock = both
    vehicle.link = common.MAVLink(None, srcSystem=2, srcComponent=1)
    vehicle.heartbeat(MANUAL)
    vehicle.odometry(1.0)
    vehicle.heartbeat(OFFBOARD)
    seen = target.read()
    assert target.control is Control.OURS and seen is not None
    assert target.command(hover_action(VEHICLE))[1:3] == (2, 1)  # addressed to it
    other = Vehicle(vehicle.port)
    other.link = common.MAVLink(None, srcSystem=3, srcComponent=1)
    other.heartbeat(MANUAL)
    other.odometry(2.0)
    assert target.read() is seen and target.control is Control.OURS
    other.udp.close()


def test_clocks_that_drift_or_begin_again_make_no_estimate_stale():
    offset = ClockOffset()
    drift = 1.0 - 50e-6
    for now in np.arange(0.0, 1200.0, 0.02):
        age = now - (drift * now + offset.after(now, drift * now))
    assert abs(age) < 2e-3
    assert 1200.0 - (1.0 + offset.after(1200.0, 1.0)) == 0.0  # the autopilot was started again
    late = ClockOffset()
    late.after(0.0, 0.0)
    assert 1.0 - (0.9 + late.after(1.0, 0.9)) == pytest.approx(0.1)  # one that took 100 ms is that old
