"""Gates in NumPy: the next gate, and crossings of a flight segment (as ``envs.racing.gates``)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import TrackCard
from s5wm.deploy.runtime.state import Vector


@dataclass(frozen=True)
class Crossing:
    """Crossing of a gate between two positions."""

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
        self._places, self._normals = self.pos.tolist(), self.normal.tolist()
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

    def passes(self, target: int, start: Vector, end: Vector) -> bool:
        """``cross(...).passed`` alone, in plain floats: a fifth of its time, for a loop that has a deadline."""
        n_x, n_y, _ = self._normals[target]
        (g_x, g_y, g_z), (a_x, a_y, a_z), (b_x, b_y, b_z) = self._places[target], start.tolist(), end.tolist()
        before = (a_x - g_x) * n_x + (a_y - g_y) * n_y
        after = (b_x - g_x) * n_x + (b_y - g_y) * n_y
        if not before < 0.0 <= after:
            return False
        share = before / (before - after)
        off_x, off_y = a_x + share * (b_x - a_x) - g_x, a_y + share * (b_y - a_y) - g_y
        aside, above = n_x * off_y - n_y * off_x, a_z + share * (b_z - a_z) - g_z
        return abs(aside) <= self.clearance and abs(above) <= self.clearance

    def cross(self, target: int, start: Vector, end: Vector) -> Crossing:
        """Crossing of a gate by the straight segment from ``start`` to ``end``."""
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
