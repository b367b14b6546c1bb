"""A quadrotor in NumPy: the equations of ``envs.quadrotor`` in float64, by fourth-order Runge-Kutta at 1 ms.

Written a second time because a runtime has no JAX; a law (tests/unit/deploy) holds both together.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.hover import GRAVITY
from s5wm.deploy.runtime.state import VehicleState, from_yaw

STEP = 1e-3
"""s of one integration step."""

YAW_RESERVE = 0.15
LIFT_SPEED_MAX = 25.0

Array = Float[np.ndarray, "..."]


@dataclass(frozen=True, eq=False)
class Body:
    """State of the simulated vehicle."""

    pos_w: Float[np.ndarray, " 3"]
    vel_w: Float[np.ndarray, " 3"]
    quat: Float[np.ndarray, " 4"]
    omega_b: Float[np.ndarray, " 3"]
    rotor_speed: Float[np.ndarray, " 4"]

    def seen(self, time: float) -> VehicleState:
        """As a perfect estimator tells it."""
        return VehicleState(
            time=time, pos_w=self.pos_w, vel_w=self.vel_w, quat=self.quat, omega_b=self.omega_b
        )


class Quadrotor:
    """Flight of one vehicle under commands in ``[-1, 1]``."""

    def __init__(self, card: VehicleCard) -> None:
        self.card = card
        self._inertia, self._drag = np.array(card.inertia), np.array(card.drag)
        self._rate_max = np.array(card.rate_max)
        self._gain, self._damping = np.array(card.rate_gain), np.array(card.rate_damping)
        self._spin = np.array(card.spin)
        self._x, self._y = np.array(card.rotor_pos).T
        self._thrust_min = card.thrust_coeff * card.rotor_speed_min**2

    def at_rest(self, pos_w: tuple[float, float, float], yaw: float) -> Body:
        """Hovering."""
        speed = math.sqrt(self.card.mass * GRAVITY / (4.0 * self.card.thrust_coeff))
        return Body(np.array(pos_w), np.zeros(3), from_yaw(yaw), np.zeros(3), np.full(4, speed))

    def fly(self, body: Body, action: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after a command was held for so long."""
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        collective, omega = 2.0 * self.card.thrust_max * (action[0] + 1.0), self._rate_max * action[1:]
        steps = max(1, round(seconds / STEP))
        y, dt = _packed(body), seconds / steps
        for _ in range(steps):
            k_1 = self._slope(y, collective, omega)
            k_2 = self._slope(y + 0.5 * dt * k_1, collective, omega)
            k_3 = self._slope(y + 0.5 * dt * k_2, collective, omega)
            k_4 = self._slope(y + dt * k_3, collective, omega)
            y = y + dt / 6.0 * (k_1 + 2.0 * k_2 + 2.0 * k_3 + k_4)
        body = _unpacked(y)
        return replace(body, quat=body.quat / np.linalg.norm(body.quat))

    def _slope(self, y: Array, collective: float, omega: Array) -> Array:
        """The right-hand side of the equations of motion."""
        card, vel, quat, rates, rotors = self.card, y[3:6], y[6:10], y[10:13], y[13:17]
        thrust = card.thrust_coeff * rotors * rotors
        torque = self._thrust_torque(thrust)
        gyro = _cross(rates, self._inertia * rates)
        wanted = self._inertia * self._gain * (omega - rates) - self._damping * torque + gyro
        target = np.sqrt(self._allocate(collective, wanted) / card.thrust_coeff)
        target = np.clip(target, card.rotor_speed_min, card.rotor_speed_max)
        spin_up = (target - rotors) / card.motor_tau
        torque = torque + np.array([0.0, 0.0, card.rotor_inertia * float(self._spin @ spin_up)])
        return np.concatenate(
            [
                vel,
                self._acceleration(quat, vel, float(thrust.sum())),
                0.5 * _times_vector(quat, rates),
                (torque - gyro) / self._inertia,
                spin_up,
            ]
        )

    def _acceleration(self, quat: Array, vel: Array, thrust: float) -> Array:
        rotation = _matrix(quat)
        vel_b = rotation.T @ vel
        force = -self._drag * vel_b
        force[2] += thrust + self.card.lift * min(float(vel_b[0] ** 2 + vel_b[1] ** 2), LIFT_SPEED_MAX**2)
        return rotation @ (force / self.card.mass) - np.array([0.0, 0.0, GRAVITY])

    def _thrust_torque(self, thrust: Array) -> Array:
        yaw = self.card.torque_coeff * float(self._spin @ thrust)
        return np.array([float(self._y @ thrust), -float(self._x @ thrust), yaw])

    def _allocate(self, collective: float, torque: Array) -> Array:
        """Rotor thrusts for a wrench; yaw yields first, then the collective, then roll and pitch."""
        low, high = self._thrust_min, self.card.thrust_max
        yaw = torque[2] / (4.0 * self.card.torque_coeff)
        kept = min(abs(yaw), YAW_RESERVE * (high - low))
        bottom, top = low + kept, high - kept
        tilt = torque[0] * self._y / (self._y @ self._y) - torque[1] * self._x / (self._x @ self._x)
        span = tilt.max() - tilt.min()
        tilt = tilt * min(1.0, (top - bottom) / max(span, 1e-6))
        base = min(max(0.25 * collective, bottom - tilt.min()), top - tilt.max()) + tilt
        room = kept + np.where(self._spin * yaw > 0.0, top - base, base - bottom).min()
        return np.clip(base + self._spin * min(max(yaw, -room), room), low, high)


def _packed(body: Body) -> Array:
    return np.concatenate([body.pos_w, body.vel_w, body.quat, body.omega_b, body.rotor_speed]).astype(float)


def _unpacked(y: Array) -> Body:
    return Body(y[0:3], y[3:6], y[6:10], y[10:13], y[13:17])


def _cross(a: Array, b: Array) -> Array:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _times_vector(quat: Array, v: Array) -> Array:
    """``q (0, v)``."""
    w, x, y, z = quat
    a, b, c = v
    return np.array(
        [-x * a - y * b - z * c, w * a + y * c - z * b, w * b + z * a - x * c, w * c + x * b - y * a]
    )


def _matrix(quat: Array) -> Array:
    """Rotation of a quaternion that is nearly, not exactly, of norm 1: as the differential equation has it."""
    w, x, y, z = quat.tolist()
    return np.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
            [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
            [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )
