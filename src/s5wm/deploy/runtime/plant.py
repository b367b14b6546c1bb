"""A quadrotor in NumPy: the equations of ``envs.quadrotor`` in float64, by fourth-order Runge-Kutta at 1 ms.

Written a second time because a runtime has no JAX; a law (tests/unit/deploy) holds both together.  The numbers of a
step are plain floats: NumPy takes ten times as long for arrays of three.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.hover import GRAVITY
from s5wm.deploy.runtime.state import VehicleState, from_yaw, to_matrix

STEP = 1e-3
"""s of one integration step."""

YAW_RESERVE = 0.15
LIFT_SPEED_MAX = 25.0

Numbers = list[float]
Targets = Callable[[Numbers], Sequence[float]]
"""Rotor speeds that a controller asks for in a state."""


@dataclass(frozen=True, eq=False)
class Body:
    """State of the simulated vehicle."""

    pos_w: Float[np.ndarray, " 3"]
    vel_w: Float[np.ndarray, " 3"]
    quat: Float[np.ndarray, " 4"]
    omega_b: Float[np.ndarray, " 3"]
    rotor_speed: Float[np.ndarray, " 4"]

    def seen(self, time: float) -> VehicleState:
        """The exact state, as a perfect estimator would output it."""
        return VehicleState(
            time=time, pos_w=self.pos_w, vel_w=self.vel_w, quat=self.quat, omega_b=self.omega_b
        )


class Quadrotor:
    """Flight of one vehicle under commands in ``[-1, 1]``, or under the motor outputs of a flight controller."""

    def __init__(self, card: VehicleCard) -> None:
        self.card = card
        self._x = tuple(x for x, _ in card.rotor_pos)
        self._y = tuple(y for _, y in card.rotor_pos)
        self._thrust_min = card.thrust_coeff * card.rotor_speed_min**2
        # Thrusts that make a roll or pitch torque of 1 N m and no collective.
        self._roll = tuple(y / sum(each * each for each in self._y) for y in self._y)
        self._pitch = tuple(-x / sum(each * each for each in self._x) for x in self._x)

    def at_rest(self, pos_w: tuple[float, float, float], yaw: float) -> Body:
        """Hovering."""
        speed = math.sqrt(self.card.mass * GRAVITY / (4.0 * self.card.thrust_coeff))
        return Body(np.array(pos_w), np.zeros(3), from_yaw(yaw), np.zeros(3), np.full(4, speed))

    def begin(self, body: Body) -> Body:
        """As it is."""
        return body

    def fly(self, body: Body, action: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after a command was held for so long."""
        collective, omega = self._scaled(action)
        return self._integrated(body, seconds, lambda y: self._rate_controller(y, collective, omega))

    def rotor_targets(self, body: Body, action: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
        """Rotor speeds in rad/s that the rate controller asks for in this state."""
        return np.array(self._rate_controller(_packed(body), *self._scaled(action)))

    def spin(self, body: Body, rotor_speed: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after somebody else's controller held these rotor speeds as targets for so long."""
        targets = np.clip(rotor_speed, 0.0, self.card.rotor_speed_max).tolist()
        return self._integrated(body, seconds, lambda _: targets)

    def _scaled(self, action: Float[np.ndarray, " 4"]) -> tuple[float, Numbers]:
        """Collective thrust in N and body rates in rad/s."""
        thrust, *turn = np.clip(np.asarray(action, np.float64), -1.0, 1.0).tolist()
        omega = [limit * each for limit, each in zip(self.card.rate_max, turn, strict=True)]
        return 2.0 * self.card.thrust_max * (thrust + 1.0), omega

    def specific_force(self, body: Body) -> Float[np.ndarray, " 3"]:
        """What an accelerometer measures, body axes, m/s^2."""
        thrust = self.card.thrust_coeff * float(body.rotor_speed @ body.rotor_speed)
        vel_b = to_matrix(body.quat).T @ body.vel_w
        return np.array(self._force(vel_b.tolist(), thrust)) / self.card.mass

    def _integrated(self, body: Body, seconds: float, targets: Targets) -> Body:
        steps = max(1, round(seconds / STEP))
        y, dt = _packed(body), seconds / steps
        for _ in range(steps):
            k_1 = self._slope(y, targets)
            k_2 = self._slope([a + 0.5 * dt * b for a, b in zip(y, k_1, strict=True)], targets)
            k_3 = self._slope([a + 0.5 * dt * b for a, b in zip(y, k_2, strict=True)], targets)
            k_4 = self._slope([a + dt * b for a, b in zip(y, k_3, strict=True)], targets)
            slopes = zip(y, k_1, k_2, k_3, k_4, strict=True)
            y = [a + dt / 6.0 * (b + 2.0 * c + 2.0 * d + e) for a, b, c, d, e in slopes]
        return _unpacked(y)

    def _slope(self, y: Numbers, targets: Targets) -> Numbers:
        """The right-hand side of the equations of motion."""
        card = self.card
        quat, rates, rotors = y[6:10], y[10:13], y[13:17]
        thrusts = [card.thrust_coeff * speed * speed for speed in rotors]
        spin_up = [(aim - now) / card.motor_tau for aim, now in zip(targets(y), rotors, strict=True)]
        torque = self._thrust_torque(thrusts)
        torque[2] += card.rotor_inertia * sum(s * a for s, a in zip(card.spin, spin_up, strict=True))
        momentum = [inertia * rate for inertia, rate in zip(card.inertia, rates, strict=True)]
        gyro = _cross(rates, momentum)
        return [
            *y[3:6],
            *self._acceleration(quat, y[3:6], sum(thrusts)),
            *_quat_slope(quat, rates),
            *((t - g) / i for t, g, i in zip(torque, gyro, card.inertia, strict=True)),
            *spin_up,
        ]

    def _rate_controller(self, y: Numbers, collective: float, omega: Sequence[float]) -> Numbers:
        """Rotor speeds that it asks for."""
        card, rates = self.card, y[10:13]
        gyro = _cross(rates, [inertia * rate for inertia, rate in zip(card.inertia, rates, strict=True)])
        torque = self._thrust_torque([card.thrust_coeff * speed * speed for speed in y[13:17]])
        wanted = [
            card.inertia[i] * card.rate_gain[i] * (omega[i] - rates[i])
            - card.rate_damping[i] * torque[i]
            + gyro[i]
            for i in range(3)
        ]
        low, high = card.rotor_speed_min, card.rotor_speed_max
        speeds = [math.sqrt(each / card.thrust_coeff) for each in self._allocate(collective, wanted)]
        return [min(max(speed, low), high) for speed in speeds]

    def _acceleration(self, quat: Numbers, vel: Numbers, thrust: float) -> Numbers:
        rows = _matrix(quat)
        vel_b = [sum(row[i] * v for row, v in zip(rows, vel, strict=True)) for i in range(3)]
        fx, fy, fz = self._force(vel_b, thrust)
        a, b, c = ((row[0] * fx + row[1] * fy + row[2] * fz) / self.card.mass for row in rows)
        return [a, b, c - GRAVITY]

    def _force(self, vel_b: Numbers, thrust: float) -> Numbers:
        u, v, w = vel_b
        k_x, k_y, k_z = self.card.drag
        return [
            -k_x * u,
            -k_y * v,
            -k_z * w + thrust + self.card.lift * min(u * u + v * v, LIFT_SPEED_MAX**2),
        ]

    def _thrust_torque(self, thrusts: Numbers) -> Numbers:
        roll = sum(y * f for y, f in zip(self._y, thrusts, strict=True))
        pitch = -sum(x * f for x, f in zip(self._x, thrusts, strict=True))
        yaw = self.card.torque_coeff * sum(s * f for s, f in zip(self.card.spin, thrusts, strict=True))
        return [roll, pitch, yaw]

    def _allocate(self, collective: float, torque: Numbers) -> Numbers:
        """Rotor thrusts for a wrench; yaw yields first, then the collective, then roll and pitch."""
        low, high, spin = self._thrust_min, self.card.thrust_max, self.card.spin
        yaw = torque[2] / (4.0 * self.card.torque_coeff)
        kept = min(abs(yaw), YAW_RESERVE * (high - low))
        bottom, top = low + kept, high - kept
        tilt = [torque[0] * a + torque[1] * b for a, b in zip(self._roll, self._pitch, strict=True)]
        share = min(1.0, (top - bottom) / max(max(tilt) - min(tilt), 1e-6))
        tilt = [share * each for each in tilt]
        level = min(max(0.25 * collective, bottom - min(tilt)), top - max(tilt))
        base = [level + each for each in tilt]
        spare = min(top - f if s * yaw > 0.0 else f - bottom for f, s in zip(base, spin, strict=True))
        yaw = min(max(yaw, -kept - spare), kept + spare)
        return [min(max(f + s * yaw, low), high) for f, s in zip(base, spin, strict=True)]


def _packed(body: Body) -> Numbers:
    parts = (body.pos_w, body.vel_w, body.quat, body.omega_b, body.rotor_speed)
    return [number for part in parts for number in part.tolist()]


def _unpacked(y: Numbers) -> Body:
    numbers = np.array(y)
    quat = numbers[6:10] / np.linalg.norm(numbers[6:10])
    return Body(numbers[0:3], numbers[3:6], quat, numbers[10:13], numbers[13:17])


def _cross(a: Numbers, b: Numbers) -> Numbers:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _quat_slope(quat: Numbers, v: Numbers) -> Numbers:
    """``q (0, v) / 2``."""
    w, x, y, z = quat
    a, b, c = (0.5 * each for each in v)
    return [-x * a - y * b - z * c, w * a + y * c - z * b, w * b + z * a - x * c, w * c + x * b - y * a]


def _matrix(quat: Numbers) -> list[Numbers]:
    """Rotation of a quaternion that is nearly, not exactly, of norm 1: as the differential equation has it."""
    w, x, y, z = quat
    return [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
