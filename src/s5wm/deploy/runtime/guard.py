"""Checks of a runtime: plausible estimates in, limited commands out."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import FlightCard
from s5wm.deploy.runtime.state import VehicleState

Action = Float[np.ndarray, " A"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits for inputs, and the number of periods that the last command is held."""

    age: float = 0.05  # s, of an estimate when it is used
    box_margin: float = 5.0  # m outside the flight volume
    speed: float = 40.0  # m/s
    rate: float = 40.0  # rad/s
    norm: float = 0.02  # how far the quaternion's norm may be from 1
    jump_speed: float = 60.0  # m/s, of the position between two estimates ...
    jump_room: float = 0.5  # m, ... beyond this
    deadline: float = 0.002  # s from the beginning of a period to its command
    hold: int = 5  # bad periods in a row, then the level hover takes over
    silence: float = (
        0.45  # s without an attitude to hover by, then nothing is sent: the flight controller's failsafe
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 < value < math.inf:
                raise ValueError(f"Limits.{name} is {value}; it must be positive")


class InputCheck:
    """Checks estimates against the last good one."""

    def __init__(self, card: FlightCard, limits: Limits) -> None:
        track, margin = card.track, limits.box_margin
        self._low = np.array(track.box_lo) - margin if track else np.full(3, -np.inf)
        self._high = np.array(track.box_hi) + margin if track else np.full(3, np.inf)
        self._limits = limits
        self.last: VehicleState | None = None

    def problem(self, state: VehicleState | None, now: float) -> str | None:
        """Fault of an estimate in one word; None if it is accepted."""
        if state is None:
            return "missing"
        problem = attitude_problem(state, now, self._limits) or self._motion_problem(state)
        if problem is None:
            self.last = state
        return problem

    def _motion_problem(self, state: VehicleState) -> str | None:
        limits, last = self._limits, self.last
        if not (np.isfinite(state.pos_w).all() and np.isfinite(state.vel_w).all()):
            return "not_finite"
        if last is not None and state.time <= last.time:
            return "repeated" if state.time == last.time else "out_of_order"
        outside = (state.pos_w < self._low).any() or (state.pos_w > self._high).any()
        if outside or np.abs(state.vel_w).max() > limits.speed:
            return "out_of_range"
        if last is not None:
            room = limits.jump_room + limits.jump_speed * (state.time - last.time)
            if float(np.linalg.norm(state.pos_w - last.pos_w)) > room:
                return "jump"
        return None


def attitude_problem(state: VehicleState, now: float, limits: Limits) -> str | None:
    """Fault of time, attitude and rates, which a level hover needs; None if they are good."""
    if state.fault is not None:
        return state.fault
    if not math.isfinite(state.time) or now - state.time > limits.age:
        return "stale"
    if state.time > now + limits.age:
        return "from_the_future"
    if not (np.isfinite(state.quat).all() and np.isfinite(state.omega_b).all()):
        return "not_finite"
    if abs(float(np.linalg.norm(state.quat)) - 1.0) > limits.norm:
        return "quaternion"
    if np.abs(state.omega_b).max() > limits.rate:
        return "out_of_range"
    return None


SLEW_MIN = 0.05
"""Least change of an action in a step that is allowed: a limit of 0 would never let go of the first command."""


class OutputLimit:
    """Clips actions to ``[-1, 1]`` and their rate to the largest of the policy's own flights."""

    def __init__(self, card: FlightCard) -> None:
        self._slew = np.maximum(np.array(card.action_slew, np.float32), np.float32(SLEW_MIN))

    def __call__(self, action: Action, before: Action) -> Action:
        """The nearest action that is allowed after ``before``."""
        low, high = np.maximum(before - self._slew, -1.0), np.minimum(before + self._slew, 1.0)
        return np.clip(action, low, high).astype(np.float32)
