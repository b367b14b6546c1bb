"""The fallback controller: levels the vehicle and slows it down at hover thrust."""

import math

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.runtime.state import VehicleState, to_matrix

GRAVITY = 9.81  # m/s^2
TILT_GAIN = 6.0  # rad/s of commanded rate per rad between the thrust axis and where it should point
SPEED_GAIN = 0.4  # 1/s, how fast speed decays
CLIMB_GAIN = 2.0  # 1/s
TILT_MAX = math.radians(25.0)  # at which it brakes
CLIMB_LIMIT = 0.6  # of gravity, more or less of it than hovering takes


def hover_action(vehicle: VehicleCard) -> Float[np.ndarray, " 4"]:
    """Hover thrust, zero rates."""
    thrust = vehicle.mass * GRAVITY / (2.0 * vehicle.thrust_max) - 1.0
    return np.array([thrust, 0.0, 0.0, 0.0], np.float32)


def level_hover(vehicle: VehicleCard, state: VehicleState) -> Float[np.ndarray, " 4"]:
    """The action in ``[-1, 1]`` for an estimate whose attitude is good; a velocity that is not finite counts as none.

    The thrust axis is turned towards ``[-k v_x, -k v_y, g]``, tilted at most ``TILT_MAX``.
    """
    rotation = to_matrix(state.quat / np.linalg.norm(state.quat))
    velocity = np.where(np.isfinite(state.vel_w), state.vel_w, 0.0)
    brake = -SPEED_GAIN * velocity[:2]
    size, limit = float(np.linalg.norm(brake)), GRAVITY * math.tan(TILT_MAX)
    brake = brake * min(1.0, limit / size) if size > 0.0 else brake
    climb = float(np.clip(-CLIMB_GAIN * velocity[2], -CLIMB_LIMIT * GRAVITY, CLIMB_LIMIT * GRAVITY))
    wanted = np.array([brake[0], brake[1], GRAVITY])
    wanted_b = rotation.T @ (wanted / np.linalg.norm(wanted))
    # The rotation that takes body z to the wanted direction, as a vector: its angle about z x d.
    angle = math.acos(float(np.clip(wanted_b[2], -1.0, 1.0)))
    axis = np.array([-wanted_b[1], wanted_b[0], 0.0])
    length = float(np.linalg.norm(axis))
    # Upside down any axis is as good as another: roll.
    axis = axis / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
    rates = TILT_GAIN * angle * axis
    upright = max(float(rotation[2, 2]), 0.0)
    lift = vehicle.mass * (GRAVITY + climb) / max(upright, 0.5) if upright > 0.0 else 0.0
    action = np.concatenate([[lift / (2.0 * vehicle.thrust_max) - 1.0], rates / np.array(vehicle.rate_max)])
    return np.clip(action, -1.0, 1.0).astype(np.float32)
