"""Time-optimal bounds on lap times, computed offline and kept as data."""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.quadrotor.rigid_body import LIFT_SPEED_MAX
from s5wm.envs.racing.track import FileTrackConfig, TrackConfig

_TIGHT, _FULL = 0.55, 0.75  # m, the tolerances of the published bounds
_ROUNDING = 1e-6  # m
_SAME_RATIO = 0.01  # thrust-to-weight ratios nearer than this are the same quadrotor


class ImpossibleLapError(ValueError):
    """A lap was faster than physics allows: the gate test, the clock or the thrust clip is wrong."""


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """One solved problem; times in s."""

    track: str
    layout: str
    quad: str | None
    thrust_to_weight: float
    tolerance: float
    rotor: float | None
    point_mass: float


def lap_bound(track: TrackConfig, quad: QuadConfig, drone_radius: float) -> float | None:
    """Time-optimal flying lap of the rigid body for the distance from a gate's axis that evaluation allows, s.

    That tolerance is half the opening less ``drone_radius`` (m).  Linear between the tolerances 0.55 m and 0.75 m, None
    outside of them or if not published.  Where a quadrotor has only the first, the relative slope is that of the same
    track at the thrust-to-weight ratio which has both.  Rotors answer at once, and there is no translational lift.
    """
    tolerance = track.half_opening - drone_radius
    if not quad.is_published or not _TIGHT - _ROUNDING <= tolerance <= _FULL + _ROUNDING:
        return None
    rotor = [b for b in _of(track) if b.rotor is not None]
    ratio = _thrust_to_weight(quad)
    own = [b for b in rotor if b.quad == quad.name and abs(b.thrust_to_weight - ratio) < _SAME_RATIO]
    tight = next((b for b in own if b.tolerance == _TIGHT), None)
    if tight is None:
        return None
    full = next((b for b in rotor if b.tolerance == _FULL), None)
    assert full is not None, "every track has one bound at full opening"
    pair = next(b for b in rotor if b.tolerance == _TIGHT and b.thrust_to_weight == full.thrust_to_weight)
    share = (tolerance - _TIGHT) / (_FULL - _TIGHT)
    return _rotor(tight) * (1.0 - share * (1.0 - _rotor(full) / _rotor(pair)))


def point_mass_bound(track: TrackConfig, quad: QuadConfig) -> float | None:
    """A time that no lap can beat, s: point mass, no drag, the whole opening; None if not published.

    Depends on the quadrotor by the ratio ``q`` of its largest force to its weight only: thrust, and translational lift
    at the speed where that grows no further.  A lap at the ratio ``p`` of a solved problem, in the time ``T``, bounds
    those at every smaller ratio, which can do less.  A lap at a larger one, flown ``s = sqrt((q - 1) / (p - 1))`` times
    slower, needs accelerations less by ``s^2``, which ``p`` suffices for: it cannot take less than ``T / s``.
    """
    ratio = _force_to_weight(quad)
    solved = [b for b in _of(track) if b.tolerance == _FULL]
    return max((b.point_mass / max(1.0, _slower(b.thrust_to_weight, ratio)) for b in solved), default=None)


def _slower(solved: float, ratio: float) -> float:
    """The factor ``s``; ratios that are the same quadrotor's have none."""
    return 1.0 if abs(ratio - solved) < _SAME_RATIO else math.sqrt((ratio - 1.0) / (solved - 1.0))


def check_lap_times(track: TrackConfig, quad: QuadConfig, times: Float[np.ndarray, "..."]) -> None:
    """Raises ``ImpossibleLapError`` if a lap (s) is faster than ``point_mass_bound``."""
    bound = point_mass_bound(track, quad)
    measured = np.asarray(times, np.float64)
    if bound is None or measured.size == 0 or measured.min() >= bound:
        return
    raise ImpossibleLapError(
        f"a lap of {measured.min():.3f} s on {track} with {quad.name} beats the point-mass "
        f"bound of {bound:.3f} s: look for an error in the gate test, the clock or the thrust clip."
    )


def _rotor(bound: _Bound) -> float:
    assert bound.rotor is not None
    return bound.rotor


def _of(track: TrackConfig) -> list[_Bound]:
    if isinstance(track, FileTrackConfig):
        return []
    return [b for b in _table() if (b.track, b.layout) == (track.name, track.layout)]


def _thrust_to_weight(quad: QuadConfig) -> float:
    return float(quad.build().thrust_to_weight)


def _force_to_weight(quad: QuadConfig) -> float:
    """The same with the largest translational lift, which points where thrust does."""
    params = quad.build()
    return float(params.thrust_to_weight + params.lift * LIFT_SPEED_MAX**2 / params.weight)


@cache
def _table() -> tuple[_Bound, ...]:
    text = files("s5wm.envs.racing").joinpath("bounds.json").read_text(encoding="utf-8")
    return tuple(_Bound(**row) for row in json.loads(text)["bounds"])
