"""Observations in NumPy, equal to ``envs.racing.observation``, and descriptions of their numbers."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import Entry, Layout
from s5wm.deploy.runtime.gates import Gates
from s5wm.deploy.runtime.state import VehicleState, to_matrix
from s5wm.errors import ConfigError

POSITION_SCALE, VELOCITY_SCALE, RATE_SCALE = 10.0, 15.0, 10.0
NEAR, LOW = 1.0, 2.0

IMAGE_AND_IMU: Layout = "image and imu"
"""Of a race whose camera has an IMU: the entries are those of the vector."""

Vector = Float[np.ndarray, " O"]


def _entry(name: str, size: int, unit: str, scale: float, frame: str) -> Entry:
    return Entry(name=name, size=size, unit=unit, scale=scale, frame=frame)  # pyright: ignore[reportArgumentType]


ENTRIES: dict[Layout, tuple[Entry, ...]] = {
    "A": (
        _entry("velocity", 3, "m/s", VELOCITY_SCALE, "world"),
        _entry("rotation matrix body to world, by rows", 9, "1", 1.0, "world"),
        _entry("corners of the next gate minus position", 12, "m", POSITION_SCALE, "world"),
    ),
    "B": (
        _entry("position", 3, "m", POSITION_SCALE, "world"),
        _entry("velocity", 3, "m/s", VELOCITY_SCALE, "world"),
        _entry("body x axis", 3, "1", 1.0, "world"),
        _entry("body y axis", 3, "1", 1.0, "world"),
        _entry("body rates", 3, "rad/s", RATE_SCALE, "body"),
        _entry("next gate minus position", 3, "m", POSITION_SCALE, "world"),
        _entry("gate after next minus next gate", 3, "m", POSITION_SCALE, "world"),
        _entry("passing direction of the next gate", 3, "1", 1.0, "world"),
    ),
    "C": (
        _entry("velocity", 3, "m/s", VELOCITY_SCALE, "body"),
        _entry("direction of up", 3, "1", 1.0, "body"),
        _entry("body rates", 3, "rad/s", RATE_SCALE, "body"),
        _entry("next gate minus position", 3, "m", POSITION_SCALE, "body"),
        _entry("passing direction of the next gate", 3, "1", 1.0, "body"),
        _entry("gate after next minus position", 3, "m", POSITION_SCALE, "body"),
        _entry("passing direction of the gate after next", 3, "1", 1.0, "body"),
        _entry(
            "tanh of the position in the next gate's frame (over 1 m, clearance, clearance)",
            3,
            "1",
            1.0,
            "gate",
        ),
        _entry("tanh(height / 2 m), cosine and sine of the gate's share of the lap", 3, "1", 1.0, "none"),
    ),
    "hover": (
        _entry("position relative to the target", 3, "m", 3.0, "world"),
        _entry("velocity", 3, "m/s", 5.0, "world"),
        _entry("body x axis", 3, "1", 1.0, "world"),
        _entry("body y axis", 3, "1", 1.0, "world"),
        _entry("body rates", 3, "rad/s", RATE_SCALE, "body"),
    ),
    IMAGE_AND_IMU: (
        _entry("body rates", 3, "rad/s", RATE_SCALE, "body"),
        _entry("last action sent, in [-1, 1]; that of hovering before the first", 4, "1", 1.0, "body"),
    ),
}


def observe(layout: Layout, gates: Gates, state: VehicleState, target: int) -> Vector:
    """The observation of a state with this gate next, float32; raises ``ConfigError`` for images."""
    check_layout(layout)
    return _LAYOUTS[layout](gates, state, target).astype(np.float32)


def check_layout(layout: Layout) -> None:
    """Raises ``ConfigError`` for observations that the runtime cannot compute."""
    if layout not in _LAYOUTS:
        raise ConfigError(
            f"the runtime computes observations of layouts {', '.join(_LAYOUTS)}, not {layout!r}: it has no camera. "
            "Call a policy that reads images, or of a task of your own, from your own program (README.md of the export)"
        )


def _observe_a(gates: Gates, state: VehicleState, target: int) -> Vector:
    corners = (gates.corners(target) - state.pos_w) / POSITION_SCALE
    return np.concatenate([state.vel_w / VELOCITY_SCALE, to_matrix(state.quat).ravel(), corners.ravel()])


def _observe_b(gates: Gates, state: VehicleState, target: int) -> Vector:
    rotation, gate = to_matrix(state.quat), gates.pos[target]
    return np.concatenate(
        [
            state.pos_w / POSITION_SCALE,
            state.vel_w / VELOCITY_SCALE,
            rotation[:, 0],
            rotation[:, 1],
            state.omega_b / RATE_SCALE,
            (gate - state.pos_w) / POSITION_SCALE,
            (gates.pos[gates.following(target)] - gate) / POSITION_SCALE,
            gates.normal[target],
        ]
    )


def _observe_c(gates: Gates, state: VehicleState, target: int) -> Vector:
    after = gates.following(target)
    to_gate, normal = gates.pos[target] - state.pos_w, gates.normal[target]
    seen_w = [
        state.vel_w / VELOCITY_SCALE,
        np.array([0.0, 0.0, 1.0]),
        to_gate / POSITION_SCALE,
        normal,
        (gates.pos[after] - state.pos_w) / POSITION_SCALE,
        gates.normal[after],
    ]
    velocity, up, *seen = np.stack(seen_w) @ to_matrix(state.quat)
    along, aside = -to_gate @ normal, -to_gate @ gates.left[target]
    near = np.array([along / NEAR, aside / gates.clearance, -to_gate[2] / gates.clearance])
    phase = 2.0 * np.pi * target / gates.count
    place = np.array([np.tanh(state.pos_w[2] / LOW), np.cos(phase), np.sin(phase)])
    return np.concatenate([velocity, up, state.omega_b / RATE_SCALE, *seen, np.tanh(near), place])


_LAYOUTS: dict[Layout, Callable[[Gates, VehicleState, int], Vector]] = {
    "A": _observe_a,
    "B": _observe_b,
    "C": _observe_c,
}
