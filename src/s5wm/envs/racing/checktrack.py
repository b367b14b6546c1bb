"""Checks of a track: gates in each other's way, in the ground, out of reach."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.envs.racing.track import FileTrackConfig, GateConfig

GROUND = 0.05
"""m between the ground and the floor of the flight volume: a drone that is lower has touched down."""

SINK = 0.05
"""m that a rim may be in the ground: the published tracks have one that is 2.5 cm deep."""

ROOM = 0.5
"""m of flight volume that a gate needs before and behind it: what a drone at 25 m/s flies in one control period."""

FASTEST_STEP = 0.6
"""m that a drone at 30 m/s flies in one control period, in which it can pass one gate."""

_PARALLEL = 1e-6
_SAME_WAY = 0.5  # cosine between two directions of passing that one straight flight takes
_COPLANAR = 0.1  # m between parallel frames that stand in one plane
_TOUCH = 1e-6  # m that neighbours may share


def check_track(track: FileTrackConfig) -> None:
    """Raise ``ValueError`` with all problems of a track, if any."""
    if found := list(track_problems(track)):
        raise ValueError(f"track {track.name!r} cannot be flown: {'; '.join(found)}")


def track_problems(track: FileTrackConfig) -> Iterator[str]:
    """Every problem, with the gates as they are numbered in pictures, from 1."""
    lo, hi = np.array(track.box.lo), np.array(track.box.hi)
    start = np.array(track.start.pos)
    if np.any(start <= lo) or np.any(start >= hi):
        yield f"the start at {track.start.pos} m lies outside the box"
    plates = [_Plate.of(gate) for gate in track.gates]
    for number, plate in enumerate(plates, 1):
        yield from _place_problems(track, f"gate {number}", plate, lo, hi)
        if _hits_frame(track, plate, start):
            yield f"the start stands in the frame of gate {number}"
    yield from _order_problems(track)
    yield from _close_problems(track, plates)
    yield from _overlaps(track, plates)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plate:
    """The upright plane of a gate."""

    pos: Float[np.ndarray, " 3"]
    normal: Float[np.ndarray, " 2"]  # in the plan
    left: Float[np.ndarray, " 2"]
    lower_rim: bool

    @classmethod
    def of(cls, gate: GateConfig) -> "_Plate":
        yaw = math.radians(gate.yaw_deg)
        return cls(
            pos=np.array(gate.pos),
            normal=np.array([math.cos(yaw), math.sin(yaw)]),
            left=np.array([-math.sin(yaw), math.cos(yaw)]),
            lower_rim=gate.lower_rim,
        )

    def is_frame_of(self, other: "_Plate") -> bool:
        """Whether both are passages of one frame."""
        return bool(np.allclose(self.pos, other.pos) and abs(_cross(self.left, other.left)) < _PARALLEL)


def _place_problems(
    track: FileTrackConfig,
    name: str,
    plate: _Plate,
    lo: Float[np.ndarray, " 3"],
    hi: Float[np.ndarray, " 3"],
) -> Iterator[str]:
    half = track.half_opening
    across, up = np.array([*half * plate.left, 0.0]), np.array([0.0, 0.0, half])
    corners = plate.pos + np.array([across + up, -across + up, -across - up, across - up])
    beyond = float(max((corners - hi).max(), (lo - corners)[:, :2].max()))
    if beyond > 0.0:
        yield f"{name} reaches {beyond:.2f} m out of the box: move it, or enlarge the box"
    ground = lo[2] - GROUND
    bottom = plate.pos[2] - half - track.rim
    if plate.lower_rim and bottom < ground - SINK:
        yield (
            f"the rim of {name} is {ground - bottom:.2f} m below the ground: raise it by as much, or set its "
            "lower_rim to false, which lets it stand on its side posts"
        )
    if plate.pos[2] - half < lo[2]:
        yield f"the opening of {name} is {lo[2] - plate.pos[2] + half:.2f} m below the floor of the box: raise it"
    ways = plate.pos + np.outer((-ROOM, ROOM), [*plate.normal, 0.0])
    if beyond <= 0.0 and (np.any(ways < lo) or np.any(ways > hi)):
        yield f"{name} has less than {ROOM} m of the box before or behind it: nobody can reach and leave it"


def _order_problems(track: FileTrackConfig) -> Iterator[str]:
    gates = track.gates
    for index, gate in enumerate(gates):
        following = (index + 1) % len(gates)
        after = gates[following]
        if gate.pos == after.pos and (gate.yaw_deg - after.yaw_deg) % 360.0 == 0.0:
            yield (
                f"gate {following + 1} is gate {index + 1} again, in the same direction: it cannot be reached without "
                "another gate between the two; a gate flown twice per lap is listed twice with others in between"
            )


def _close_problems(track: FileTrackConfig, plates: list[_Plate]) -> Iterator[str]:
    """Consecutive openings that one step can fly through."""
    for index, plate in enumerate(plates):
        following = (index + 1) % len(plates)
        after = plates[following]
        between = after.pos - plate.pos
        ahead, aside = float(between[:2] @ plate.normal), float(between[:2] @ plate.left)
        faces = float(plate.normal @ after.normal) > _SAME_WAY
        if (
            faces
            and 0.0 < ahead < FASTEST_STEP
            and max(abs(aside), abs(float(between[2]))) < 2 * track.half_opening
        ):
            yield (
                f"gate {following + 1} stands {ahead:.2f} m behind gate {index + 1}: one step of a fast drone would "
                f"pass both and count one; leave {FASTEST_STEP:g} m"
            )


def _overlaps(track: FileTrackConfig, plates: list[_Plate]) -> Iterator[str]:
    """Frames that stand in the opening of another, each pair once."""
    for i, one in enumerate(plates):
        for j, other in enumerate(plates[:i]):
            if one.is_frame_of(other):
                continue
            if _stands_in(track, one, other) or _stands_in(track, other, one):
                yield f"the frames of gates {j + 1} and {i + 1} overlap: one stands in the opening of the other"


def _stands_in(track: FileTrackConfig, frame: _Plate, opening: _Plate) -> bool:
    """Whether the solid part of one gate reaches into the opening of another, or of crossing ones into the frame, too.

    In one plane frames may share a bar, as the pair of the Split-S does.
    """
    half, outer = track.half_opening, track.half_opening + track.rim
    between = opening.pos - frame.pos
    turn = _cross(frame.left, opening.left)
    if abs(turn) < _PARALLEL:
        if abs(between[:2] @ frame.normal) > _COPLANAR:
            return False
        aside = float(between[:2] @ frame.left)
        wide, reach = (aside - half, aside + half), half
    else:  # the planes meet in an upright line, at one place of each
        at_frame = _cross(between[:2], opening.left) / turn
        at_opening = _cross(between[:2], frame.left) / turn
        if abs(at_opening) >= outer - _TOUCH:
            return False
        wide, reach = (at_frame, at_frame), outer
    tall = (float(between[2]) - reach, float(between[2]) + reach)
    sides = ((-outer, -half), (half, outer))
    bars = [(side, (-outer, outer)) for side in sides] + [((-outer, outer), (half, outer))]
    bars += [((-outer, outer), (-outer, -half))] if frame.lower_rim else []
    return any(_meet(wide, across) and _meet(tall, upright) for across, upright in bars)


def _hits_frame(track: FileTrackConfig, plate: _Plate, point: Float[np.ndarray, " 3"]) -> bool:
    """Whether a point lies in the frame of a gate."""
    offset = point - plate.pos
    if abs(offset[:2] @ plate.normal) > _COPLANAR:
        return False
    reach = max(abs(float(offset[:2] @ plate.left)), abs(float(offset[2])))
    return track.half_opening <= reach <= track.half_opening + track.rim


def _meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two intervals share more than an end; a point may lie in the other."""
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return high - low > _TOUCH or (one[0] == one[1] and high >= low)


def _cross(a: Float[np.ndarray, " 2"], b: Float[np.ndarray, " 2"]) -> float:
    return float(a[0] * b[1] - a[1] * b[0])
