"""Tracks: poses of gates, their openings, the flight volume and the start pose."""

import math
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MAX_GATES = 8
"""Length of the one-hot gate index in the privileged vector; on tracks of more passages it is as long as these."""

MOST_GATES = 200
"""Passages that a track may have."""

SAME_PLANE = 0.05
"""m by which frames of one structure may be out of its plane."""

PARALLEL = 0.01
"""rad by which they may be turned."""

HALF_OPENING, RIM = 0.75, 0.275
"""m, of the published tracks."""


class Track(eqx.Module):
    """Gates in the order of passing.  SI units, world frame with z up, yaw about z in radians.

    Frame of a gate: x is the direction of passing (``normal``), y is to the left, z is up.  A gate that is
    flown twice per lap is listed twice; ``physical`` says which rows are one and the same frame.
    """

    gate_pos: Float[Array, "G 3"]  # centre, m
    gate_yaw: Float[Array, " G"]
    half_opening: Float[Array, ""]  # half the side of the square opening, m
    rim: Float[Array, ""]  # width of the frame around it, m
    has_lower_rim: Bool[Array, " G"]  # False where the frame stands on its side posts in the ground
    physical: Int[Array, " G"]  # index of the frame that a passage goes through
    box_lo: Float[Array, " 3"]  # corners of the flight volume, m; its floor is the ground
    box_hi: Float[Array, " 3"]
    start_pos: Float[Array, " 3"]
    start_yaw: Float[Array, ""]

    @property
    def num_gates(self) -> int:
        """Passages per lap."""
        return self.gate_yaw.shape[0]

    @property
    def normal(self) -> Float[Array, "G 3"]:
        """Unit vectors in the direction of passing."""
        return jnp.stack(
            [jnp.cos(self.gate_yaw), jnp.sin(self.gate_yaw), jnp.zeros_like(self.gate_yaw)], axis=-1
        )

    @property
    def left(self) -> Float[Array, "G 3"]:
        """Unit vectors to the left of the direction of passing."""
        return jnp.stack(
            [-jnp.sin(self.gate_yaw), jnp.cos(self.gate_yaw), jnp.zeros_like(self.gate_yaw)], axis=-1
        )

    @property
    def corners(self) -> Float[Array, "G 4 3"]:
        """Corners of the openings: upper left, upper right, lower right, lower left, seen when passing."""
        side = jnp.array([1.0, -1.0, -1.0, 1.0])[None, :, None] * self.left[:, None, :]
        up = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, -1.0]])
        return self.gate_pos[:, None, :] + self.half_opening * (side + up[None])

    @property
    def structure(self) -> Int[Array, " G"]:
        """First passage through the structure that a passage's frame is part of.

        Frames in one plane that stand above each other or touch side by side are one structure, as the pair of the
        Split-S is; so are both passages through one frame.
        """
        apart = self.gate_pos[:, None] - self.gate_pos[None]
        ahead = jnp.einsum("ijk,jk->ij", apart, self.normal)
        aside = jnp.einsum("ijk,jk->ij", apart, self.left)
        is_parallel = jnp.abs(jnp.sin(self.gate_yaw[:, None] - self.gate_yaw[None])) < PARALLEL
        width = 2.0 * (self.half_opening + self.rim) + SAME_PLANE
        joined = is_parallel & (jnp.abs(ahead) < SAME_PLANE) & (jnp.abs(aside) <= width)
        first = jnp.arange(self.num_gates)
        for _ in range(self.num_gates.bit_length()):  # what touches the same frame is joined, too
            first = jnp.min(jnp.where(joined, first[None], self.num_gates), axis=1)
            first = first[first]
        return first

    def following(self, gate: Int[Array, ""]) -> Int[Array, ""]:
        """The gate after ``gate``; the track is a loop."""
        return jnp.where(gate + 1 == self.num_gates, 0, gate + 1)


Row = tuple[float, float, float, float]

_SPLIT_S: dict[str, tuple[Row, ...]] = {  # x, y, z in m, yaw in degrees
    "rpg2026": (
        (-0.60, -0.86, 3.68, -20.0),
        (9.00, 6.45, 1.05, 0.0),
        (8.85, -3.80, 1.05, -130.0),
        (-4.30, -5.60, 3.40, 180.0),
        (-4.30, -5.60, 1.42, 0.0),
        (4.50, -0.45, 1.05, 80.0),
        (-1.95, 6.81, 1.05, -150.0),
    ),
    "classic": (
        (-1.1, -1.6, 3.6, -20.0),
        (9.2, 6.6, 1.0, 0.0),
        (9.2, -4.0, 1.2, -130.0),
        (-4.5, -6.0, 3.5, 180.0),
        (-4.5, -6.0, 0.8, 0.0),
        (4.75, -0.9, 1.2, 80.0),
        (-2.8, 6.8, 1.2, -150.0),
    ),
}

_FIGURE_8: tuple[Row, ...] = (
    (0.0, 0.0, 1.5, 90.0),
    (3.5, 2.5, 1.5, 0.0),
    (6.0, 0.0, 1.5, -90.0),
    (3.5, -2.5, 1.5, 180.0),
    (0.0, 0.0, 1.5, 90.0),
    (-3.5, 2.5, 1.5, 180.0),
    (-6.0, 0.0, 1.5, -90.0),
    (-3.5, -2.5, 1.5, 0.0),
)


@dataclass(frozen=True, kw_only=True)
class SplitSConfig:
    """The Split-S: seven gates, the fourth above the fifth and flown in the opposite direction.

    ``rpg2026`` has the gates, flight volume and start of uzh-rpg/marl-racing (arXiv 2605.22748), the start
    turned to the first gate; ``classic`` the gates of rpg_time_optimal, whose low fifth gate (0.8 m) has no
    lower rim, since that would lie in the ground.
    """

    layout: Literal["rpg2026", "classic"] = "rpg2026"

    def __post_init__(self) -> None:
        _check_layout("SplitSConfig", self.layout, tuple(_SPLIT_S))

    @property
    def name(self) -> str:
        """Name of the track in tasks and tables."""
        return "split-s"

    @property
    def half_opening(self) -> float:
        """Half the side of its gates' openings, m."""
        return HALF_OPENING

    def build(self) -> Track:
        """The track as arrays."""
        rows = _SPLIT_S[self.layout]
        start = (-5.0, 4.7, 0.61) if self.layout == "rpg2026" else (-5.0, 4.5, 1.2)
        to_first = math.atan2(rows[0][1] - start[1], rows[0][0] - start[0])
        return _track(
            rows,
            box=((-10.0, -8.0, 0.05), (14.0, 9.0, 6.0)),
            start=(*start, to_first if self.layout == "rpg2026" else 0.0),
            sunken=() if self.layout == "rpg2026" else (4,),
        )


@dataclass(frozen=True, kw_only=True)
class Figure8Config:
    """A flat figure of eight: two lobes of three gates and a centre gate flown twice per lap.

    ``fig8B`` is ``fig8A`` stretched by 1.75 in the plane.
    """

    layout: Literal["fig8A", "fig8B"] = "fig8A"

    def __post_init__(self) -> None:
        _check_layout("Figure8Config", self.layout, ("fig8A", "fig8B"))

    @property
    def name(self) -> str:
        """Name of the track in tasks and tables."""
        return "figure-8"

    @property
    def half_opening(self) -> float:
        """Half the side of its gates' openings, m."""
        return HALF_OPENING

    def build(self) -> Track:
        """The track as arrays."""
        scale, half_x, half_y = (1.0, 9.0, 6.0) if self.layout == "fig8A" else (1.75, 15.0, 9.0)
        return _track(
            tuple((scale * x, scale * y, z, yaw) for x, y, z, yaw in _FIGURE_8),
            box=((-half_x, -half_y, 0.05), (half_x, half_y, 4.5)),
            start=(-1.5 * scale, -2.2 * scale, 1.0, math.radians(50.0)),
        )


Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """One passage of a lap; the same place with the same or the opposite direction is the same frame."""

    pos: Point  # of its centre, m, z up
    yaw_deg: float  # direction of passing, about z
    lower_rim: bool = True  # false: it stands on its side posts in the ground


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Where flights begin, at rest."""

    pos: Point  # m
    yaw_deg: float | None = None  # where the drone looks; none: to the first gate


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    """Opposite corners of the flight volume, m; its floor is the ground."""

    lo: Point
    hi: Point


@dataclass(frozen=True, kw_only=True)
class FileTrackConfig:
    """A track of your own, as a JSON or YAML file has it: ``--override task.track=file:PATH``."""

    gates: tuple[GateConfig, ...]  # in the order of passing
    start: StartConfig
    box: BoxConfig
    name: str = "own"
    opening: float = 2.0 * HALF_OPENING  # side of the square openings, m
    rim: float = RIM  # width of the frame around them, m

    def __post_init__(self) -> None:
        if not 2 <= len(self.gates) <= MOST_GATES:
            raise ValueError(f"a track has {len(self.gates)} gates; it must have 2 to {MOST_GATES}")
        for name in ("opening", "rim"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ValueError(f"track.{name} is {value} m; it must be positive")
        for low, high, axis in zip(self.box.lo, self.box.hi, "xyz", strict=True):
            if not low < high:
                raise ValueError(
                    f"track.box goes from {low} to {high} m along {axis}; lo must be less than hi"
                )

    @property
    def half_opening(self) -> float:
        """Half the side of its gates' openings, m."""
        return self.opening / 2.0

    def build(self) -> Track:
        """The track as arrays."""
        first, begin = self.gates[0].pos, self.start.pos
        yaw = self.start.yaw_deg
        heading = math.atan2(first[1] - begin[1], first[0] - begin[0]) if yaw is None else math.radians(yaw)
        return _track(
            tuple((*gate.pos, gate.yaw_deg) for gate in self.gates),
            box=(self.box.lo, self.box.hi),
            start=(*begin, heading),
            sunken=tuple(index for index, gate in enumerate(self.gates) if not gate.lower_rim),
            frame=(self.half_opening, self.rim),
        )


TrackConfig = SplitSConfig | Figure8Config | FileTrackConfig


def _track(
    rows: tuple[Row, ...],
    *,
    box: tuple[Point, Point],
    start: tuple[float, float, float, float],
    sunken: tuple[int, ...] = (),
    frame: tuple[float, float] = (HALF_OPENING, RIM),
) -> Track:
    """Arrays of a track; ``sunken`` gates have no lower rim, ``frame`` is half the opening and the rim, m."""
    poses = np.array(rows, np.float32)
    frames: dict[Row, int] = {}
    physical = [frames.setdefault(_frame_of(row), len(frames)) for row in rows]
    return Track(
        gate_pos=jnp.asarray(poses[:, :3]),
        gate_yaw=jnp.asarray(np.deg2rad(poses[:, 3])),
        half_opening=jnp.asarray(frame[0], jnp.float32),
        rim=jnp.asarray(frame[1], jnp.float32),
        has_lower_rim=jnp.asarray([index not in sunken for index in range(len(rows))]),
        physical=jnp.asarray(physical, jnp.int32),
        box_lo=jnp.asarray(box[0], jnp.float32),
        box_hi=jnp.asarray(box[1], jnp.float32),
        start_pos=jnp.asarray(start[:3], jnp.float32),
        start_yaw=jnp.asarray(start[3], jnp.float32),
    )


def _frame_of(row: Row) -> Row:
    """The same for both directions through a frame."""
    return (*row[:3], round(row[3], 6) % 180.0)


def _check_layout(where: str, layout: str, known: tuple[str, ...]) -> None:
    if layout not in known:
        raise ValueError(
            f"{where}.layout is {layout!r}; it must be one of {', '.join(known)}: choose one of these."
        )
