"""Time-optimal bounds on lap times, computed offline and kept as data."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.track import FileTrackConfig, TrackConfig

EVALUATION_TOLERANCE = 0.60
"""m from a gate's axis at which the centre of a drone of 0.15 m radius may pass a 1.5 m opening."""

_TIGHT, _FULL = 0.55, 0.75  # m, the tolerances of the published bounds
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


def lap_bound(track: TrackConfig, quad: QuadConfig) -> float | None:
    """Time-optimal flying lap of the rigid body at the tolerance of evaluation, s; None if not published.

    Linear between the tolerances 0.55 m and 0.75 m.  Where a quadrotor has only the first, the relative
    slope is that of the same track at the thrust-to-weight ratio which has both.
    """
    if not quad.is_published:
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
    share = (EVALUATION_TOLERANCE - _TIGHT) / (_FULL - _TIGHT)
    return _rotor(tight) * (1.0 - share * (1.0 - _rotor(full) / _rotor(pair)))


def point_mass_bound(track: TrackConfig, quad: QuadConfig) -> float | None:
    """A time that no lap can beat, s: point mass, no drag, the whole opening; None if not published.

    Depends on the quadrotor by its thrust-to-weight ratio only; where that ratio was not solved, the next
    larger one is a bound too.
    """
    ratio = _thrust_to_weight(quad)
    able = [b for b in _of(track) if b.tolerance == _FULL and b.thrust_to_weight > ratio - _SAME_RATIO]
    return max((b.point_mass for b in able), default=None)


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


@cache
def _table() -> tuple[_Bound, ...]:
    text = files("s5wm.envs.racing").joinpath("bounds.json").read_text(encoding="utf-8")
    return tuple(_Bound(**row) for row in json.loads(text)["bounds"])
