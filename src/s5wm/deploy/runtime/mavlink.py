"""A vehicle behind MAVLink (PX4): ODOMETRY in, SET_ATTITUDE_TARGET out, over UDP.

    ours    world x north, y west, z up      body x forward, y left, z up (FLU)
    theirs  world x north, y east, z down    body x forward, y right, z down (FRD)

Half a turn about x takes one to the other, so y and z of every vector change sign, and those of the quaternion.
Nothing here arms, disarms or changes a mode: a person does, and until then the policy only waits.
"""

import math
import socket
from collections import deque
from typing import Any

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.hover import GRAVITY
from s5wm.deploy.runtime.loop import Clock
from s5wm.deploy.runtime.pilot import Control
from s5wm.deploy.runtime.state import VehicleState, to_matrix
from s5wm.deploy.runtime.vehicle_clock import VehicleClock
from s5wm.errors import ConfigError

IGNORE_ATTITUDE = 0b10000000
"""Type mask of SET_ATTITUDE_TARGET: rates and thrust count."""

ARMED = 0b10000000
"""In the base mode of a heartbeat."""

AUTOPILOT = 1
"""Component whose messages count: MAV_COMP_ID_AUTOPILOT1."""

PX4_OFFBOARD = 6
"""Main mode in bits 16 to 23 of PX4's custom mode."""

FAILED = (5, 6, 8)
"""MAV_STATE of a vehicle whose failsafe flies (critical), or that has given up (emergency, flight termination)."""

LOCAL_NED, LOCAL_FRD, BODY_FRD = 1, 20, 12
"""MAV_FRAME of world axes to the north, of world axes of another heading, and of body axes."""

FRAMES = frozenset((world, velocity) for world in (LOCAL_NED, LOCAL_FRD) for velocity in (world, BODY_FRD))
"""Frames of position and velocity that are understood; two worlds of different headings do not go together."""

LOST = -1
"""Quality of an odometry that has failed."""

ASKS = 0.1
"""s between two questions for the vehicle's time."""

THROTTLE_MIN = 0.05
"""Throttle at hover below which it is taken for a slip of the pen."""

TURN = np.array([1.0, -1.0, -1.0])
"""Half a turn about x, for vectors."""

LARGEST = 2048
"""Bytes of a datagram."""


class MavlinkTarget:
    """One vehicle; commands go to whoever sends its odometry, and nowhere before it has."""

    def __init__(
        self,
        vehicle: VehicleCard,
        clock: Clock,
        address: tuple[str, int],
        *,
        hover_throttle: float,
        sends: bool,
    ) -> None:
        """``hover_throttle`` is the throttle (0 to 1) that carries the weight; ``sends=False`` is a dry run."""
        self._protocol = _dialect()
        self._link = self._protocol.MAVLink(None, srcSystem=255, srcComponent=191)  # an onboard computer
        self._link.robust_parsing = True
        self._vehicle, self._clock, self._sends = vehicle, clock, sends
        self._thrust_per_newton = check_throttle(vehicle, hover_throttle) / (vehicle.mass * GRAVITY)
        self._socket = _bound(address)
        self._peer: Any = None
        self._system: int | None = None  # of the vehicle, whose first odometry chooses it
        self._vehicle_clock = VehicleClock()
        self._asked: deque[int] = deque(maxlen=20)  # ns, when we asked for its time
        self._state: VehicleState | None = None
        self._control: dict[int, Control] = {}  # by system: heartbeats may come before odometry
        self.sent = 0

    @property
    def control(self) -> Control:
        """Who flies, by the vehicle's latest heartbeat: we do where it is armed and in OFFBOARD mode.

        In a dry run we do as soon as there is an estimate: OFFBOARD needs commands, and none are sent.
        """
        if not self._sends:
            return Control.ANOTHER if self._state is None else Control.OURS
        return Control.ANOTHER if self._system is None else self._control.get(self._system, Control.ANOTHER)

    def read(self) -> VehicleState | None:
        """The newest odometry; the same one again until another comes."""
        while True:
            try:
                data, peer = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return self._state
            for message in self._link.parse_buffer(bytearray(data)) or ():
                self._take(message, peer)

    def send(self, action: Float[np.ndarray, " 4"] | None) -> None:
        """Send rates and thrust, unless this is a dry run or no vehicle is known."""
        if action is None or self._peer is None or not self._sends:
            return
        message = self._protocol.MAVLink_set_attitude_target_message(*self.command(action))
        self.sent += self._said(message)

    def command(self, action: Float[np.ndarray, " 4"]) -> tuple[Any, ...]:
        """Fields of SET_ATTITUDE_TARGET."""
        rates = TURN * np.array(self._vehicle.rate_max) * action[1:]
        newton = 2.0 * self._vehicle.thrust_max * (float(action[0]) + 1.0)
        thrust = min(max(newton * self._thrust_per_newton, 0.0), 1.0)
        milliseconds = int(1e3 * self._clock.now()) % 2**32
        return (
            milliseconds,
            self._system or 1,
            AUTOPILOT,
            IGNORE_ATTITUDE,
            [1.0, 0.0, 0.0, 0.0],
            *map(float, rates),
            thrust,
        )

    def between(self, until: float) -> None:
        """Ask the vehicle for its time, some times a second; never in a dry run."""
        now = round(1e9 * self._clock.now())
        if self._peer is None or not self._sends or (self._asked and now - self._asked[-1] < 1e9 * ASKS):
            return
        self._asked.append(now)
        self._said(self._protocol.MAVLink_timesync_message(0, now))

    @property
    def is_over(self) -> bool:
        """False: a vehicle flies until the program ends."""
        return False

    def close(self) -> None:
        """Close the port."""
        self._socket.close()

    def _take(self, message: Any, peer: Any) -> None:
        if message.get_srcComponent() != AUTOPILOT:  # gimbals, cameras and ground stations speak here too
            return
        system = message.get_srcSystem()
        if message.get_type() == "HEARTBEAT":
            self._control[system] = control_of(message)
        if message.get_type() == "TIMESYNC" and system == self._system:
            self._take_time(message)
        if message.get_type() == "ODOMETRY":
            self._system = self._system or system
            if system != self._system:
                return  # another vehicle on the same port
            self._peer = peer
            stamp = 1e-6 * float(message.time_usec)
            self._state = state_of(message, self._vehicle_clock.heard(self._clock.now(), stamp))

    def _take_time(self, message: Any) -> None:
        """Take an answer to a question of ours; the vehicle asks too (tc1 is 0), and answers others."""
        if message.tc1 > 0 and message.ts1 in self._asked:
            self._vehicle_clock.answered(1e-9 * message.ts1, 1e-9 * message.tc1, self._clock.now())

    def _said(self, message: Any) -> bool:
        try:
            self._socket.sendto(message.pack(self._link), self._peer)
        except OSError:
            return False  # a lost datagram, as a radio loses them: the flight controller watches for silence
        return True


def check_throttle(vehicle: VehicleCard, hover_throttle: float) -> float:
    """``hover_throttle`` where full throttle is enough for the policy; raises ``ConfigError`` for any other."""
    largest = largest_throttle(vehicle)
    least = min(THROTTLE_MIN, largest)
    if least <= hover_throttle <= largest:
        return hover_throttle
    raise ConfigError(
        f"--hover-throttle is {hover_throttle:g}; it must lie in [{least:.3g}, {rounded_down(largest):g}]: the policy "
        f"commands up to {4.0 * vehicle.thrust_max:.3g} N, {1.0 / largest:.3g} times its weight, and full throttle "
        "must give that much. Measure the throttle at which your vehicle hovers; one that hovers at more is too weak "
        "for this policy"
    )


def rounded_down(throttle: float) -> float:
    """To three digits, so that it is allowed where the number itself is."""
    return math.floor(1e3 * throttle) / 1e3


def largest_throttle(vehicle: VehicleCard) -> float:
    """Throttle at hover of the quadrotor that the policy was trained on: full throttle is its largest thrust."""
    return vehicle.mass * GRAVITY / (4.0 * vehicle.thrust_max)


def control_of(message: Any) -> Control:
    """Who flies, by a HEARTBEAT message of PX4."""
    if not message.base_mode & ARMED:
        return Control.DISARMED
    if (int(message.custom_mode) >> 16) & 0xFF == PX4_OFFBOARD:
        return Control.OURS
    return Control.FAILSAFE if message.system_status in FAILED else Control.ANOTHER


def state_of(message: Any, time: float) -> VehicleState:
    """An ODOMETRY message as an estimate; numbers that are not finite are passed on, to be refused by name.

    In frames that it does not know, no number means anything: the state has none, and its ``fault`` is ``frame``.
    The fault of an odometry that its source calls failed is ``quality``.
    """
    if (message.frame_id, message.child_frame_id) not in FRAMES:
        none = np.full(3, np.nan)
        return VehicleState(
            time=time, pos_w=none, vel_w=none, quat=np.full(4, np.nan), omega_b=none, fault="frame"
        )
    quat = np.array(message.q, float) * np.array([1.0, *TURN])
    velocity = TURN * np.array([message.vx, message.vy, message.vz])
    if message.child_frame_id == BODY_FRD:
        velocity = to_matrix(quat) @ velocity
    return VehicleState(
        time=time,
        pos_w=TURN * np.array([message.x, message.y, message.z]),
        vel_w=velocity,
        quat=quat,
        omega_b=TURN * np.array([message.rollspeed, message.pitchspeed, message.yawspeed]),
        fault="quality" if message.quality == LOST else None,
    )


def _dialect() -> Any:
    try:
        from pymavlink.dialects.v20 import common
    except ModuleNotFoundError as error:
        raise ConfigError("MAVLink needs a package: pip install 's5wm[mavlink]'") from error
    return common


def _bound(address: tuple[str, int]) -> socket.socket:
    """A UDP socket that never waits; raises ``ConfigError`` where the address cannot be had."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.bind(address)
    except OSError as error:
        udp.close()
        raise ConfigError(
            f"--address {address[0]}:{address[1]} cannot be used: {error.strerror}; name another, or end the program "
            "that has it"
        ) from error
    udp.setblocking(False)
    return udp
