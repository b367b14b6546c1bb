"""Imagined and real futures: the results of ``s5wm imagine``, kept so that they can be drawn.

Axes: ``E`` moments of held-out flights, ``S`` samples imagined from each along the real actions, ``H``
horizon.  The file is a plain ``.npz``: ``dt``, ``real_pos``, ``imagined_pos`` and, for every state group in
the order of ``groups``, ``error/GROUP/median``, ``.../lo``, ``.../hi``, ``.../deviation`` with ``units`` for
``groups``; ``about`` is a JSON object that says whose flights and world model they are, and ``course/NAME`` the
gates of a race.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from s5wm.runs.arrays import write_arrays
from s5wm.runs.flights import TrackGeometry, arrays_of, read_track_geometry

PREDICTIONS = Path("plots") / "imagination.npz"
"""Where a run keeps its open-loop predictions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorBand:
    """Error of one state group against the horizon: median and 90 % band, step ``h`` in place ``h - 1``."""

    unit: str  # of the error: "m", "m/s", "deg", "rad/s", "" for a reward
    median: Float[np.ndarray, " H"]
    lo: Float[np.ndarray, " H"]  # 5th percentile
    hi: Float[np.ndarray, " H"]  # 95th percentile
    deviation: float = float("nan")  # of the real values from their mean, whatever the horizon; NaN: unknown

    def __post_init__(self) -> None:
        shapes = {np.shape(self.median), np.shape(self.lo), np.shape(self.hi)}
        if len(shapes) != 1:
            raise ValueError(
                f"ErrorBand has curves of shapes {sorted(shapes)}; give one value per horizon step."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenLoopPredictions:
    """Open-loop imagination against reality.  NaN where a flight ended before the horizon.

    Without moments (``E`` is 0) there are errors alone: the task has no position.
    """

    dt: float  # s per step
    real_pos: Float[np.ndarray, "E H1 3"]  # m, world axes; place 0 is the moment imagination began
    imagined_pos: Float[np.ndarray, "E S H1 3"]
    errors: Mapping[str, ErrorBand]  # by state group, in the order drawn
    about: Mapping[str, Any] = field(
        default_factory=dict[str, Any]
    )  # ``policy``, ``env_steps``, names of the preset
    track: TrackGeometry | None = None  # of a race

    def __post_init__(self) -> None:
        real, imagined = np.shape(self.real_pos), np.shape(self.imagined_pos)
        if len(imagined) != 4 or (imagined[0], *imagined[2:]) != real:
            raise ValueError(
                f"imagined_pos has shape {imagined} and real_pos {real}; with real_pos [E, H+1, 3] it "
                "must be [E, S, H+1, 3]: keep the moment of departure as place 0 of both."
            )


def save_predictions(path: Path, predictions: OpenLoopPredictions) -> None:
    """Writes the file, replacing it whole."""
    arrays: dict[str, np.ndarray] = {
        "about": np.asarray(json.dumps(dict(predictions.about))),
        "dt": np.asarray(predictions.dt, np.float32),
        "real_pos": np.asarray(predictions.real_pos, np.float32),
        "imagined_pos": np.asarray(predictions.imagined_pos, np.float32),
        "groups": np.asarray(list(predictions.errors), np.str_),
        "units": np.asarray([band.unit for band in predictions.errors.values()], np.str_),
    }
    for group, band in predictions.errors.items():
        for name in ("median", "lo", "hi", "deviation"):
            arrays[f"error/{group}/{name}"] = np.asarray(getattr(band, name), np.float32)
    if predictions.track is not None:
        arrays |= arrays_of(predictions.track)
    write_arrays(path, arrays)


def load_predictions(path: Path) -> OpenLoopPredictions:
    """Read a file of ``save_predictions``."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        errors = {
            str(group): ErrorBand(
                unit=str(unit),
                median=data[f"error/{group}/median"],
                lo=data[f"error/{group}/lo"],
                hi=data[f"error/{group}/hi"],
                deviation=float(data.get(f"error/{group}/deviation", np.nan)),
            )
            for group, unit in zip(data["groups"], data["units"], strict=True)
        }
        return OpenLoopPredictions(
            dt=float(data["dt"]),
            real_pos=data["real_pos"],
            imagined_pos=data["imagined_pos"],
            errors=errors,
            about=json.loads(str(data["about"])) if "about" in data else {},
            track=read_track_geometry(data),
        )
