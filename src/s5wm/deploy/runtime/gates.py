"""Gates in NumPy: which one is next, and what a piece of flight does at them (as ``envs.racing.gates``)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import TrackCard
from s5wm.deploy.runtime.state import Vector


@dataclass(frozen=True)
class Crossing:
    """What happened between two positions."""

    passed: bool  # the target, through its opening, in the right direction
    wrong_way: bool
    rim_hit: bool  # of any gate
    fraction: float  # where on the piece the target's plane is met; 1 if it is not


class Gates:
    """The gates of a track as arrays."""

    def __init__(self, card: TrackCard) -> None:
        yaw = np.array(card.gate_yaw)
        zero = np.zeros_like(yaw)
        self.card = card
        self.pos = np.array(card.gate_pos)
        self.normal = np.stack([np.cos(yaw), np.sin(yaw), zero], axis=1)
        self.left = np.stack([-np.sin(yaw), np.cos(yaw), zero], axis=1)
        self._posts = ~np.array(card.has_lower_rim)
        self.clearance = card.half_opening - card.drone_radius

    @property
    def count(self) -> int:
        """Passages per lap."""
        return len(self.pos)

    def following(self, gate: int) -> int:
        """The gate after; the track is a loop."""
        return (gate + 1) % self.count

    def corners(self, gate: int) -> Float[np.ndarray, "4 3"]:
        """Of the opening: upper left, upper right, lower right, lower left, seen when passing."""
        side = np.array([1.0, -1.0, -1.0, 1.0])[:, None] * self.left[gate]
        up = np.array([1.0, 1.0, -1.0, -1.0])[:, None] * np.array([0.0, 0.0, 1.0])
        return self.pos[gate] + self.card.half_opening * (side + up)

    def cross(self, target: int, start: Vector, end: Vector) -> Crossing:
        """What the straight piece from ``start`` to ``end`` does."""
        before = ((start - self.pos) * self.normal).sum(axis=1)
        after = ((end - self.pos) * self.normal).sum(axis=1)
        forwards, backwards = (before < 0) & (after >= 0), (before >= 0) & (after < 0)
        crossed, span = forwards | backwards, before - after
        fraction = np.where(crossed, before / np.where(np.abs(span) > 1e-12, span, 1.0), 1.0)
        offset = start + fraction[:, None] * (end - start) - self.pos
        y, z = np.abs((offset * self.left).sum(axis=1)), offset[:, 2]
        miss, card = np.maximum(y, np.abs(z)), self.card
        inside = crossed & (miss <= self.clearance)
        below = self._posts & (z < 0) & (y <= self.clearance)
        on_rim = crossed & ~inside & ~below & (miss < card.half_opening + card.rim + card.drone_radius)
        passed = bool(inside[target] & forwards[target])
        return Crossing(
            passed=passed,
            wrong_way=bool(inside[target] & backwards[target]),
            rim_hit=bool(on_rim.any()) and not passed,
            fraction=float(fraction[target]),
        )
