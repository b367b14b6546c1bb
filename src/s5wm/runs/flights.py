"""Recorded flights: episodes of an evaluation, kept so that they can be drawn later.

SI units; ``_w`` world frame (z up); quaternions w first, body to world.  The file is a plain ``.npz``:
``count``, then ``0/time``, ``0/pos_w``, ... for every flight, ``course/gate_pos``, ... if it was given, and ``about``,
a JSON object that says which policy flew and how its whole evaluation went.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from s5wm.runs.arrays import write_arrays

UNHARMED = ("FLYING", "TIME_LIMIT")
"""Endings that are not a crash; every other name of ``envs.racing.laps.Ending`` is one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Flight:
    """One episode, one entry per control step, the last being the state in which it ended.

    ``target`` is the gate to pass next, so a gate was passed wherever it changes.  On a task without gates
    it is zero throughout.
    """

    time: Float[np.ndarray, " T"]  # s from the start
    pos_w: Float[np.ndarray, "T 3"]  # m
    vel_w: Float[np.ndarray, "T 3"]  # m/s
    quat: Float[np.ndarray, "T 4"]
    action: Float[np.ndarray, "T 4"]  # in [-1, 1]; the one chosen at this step
    target: Int[np.ndarray, " T"]
    gates: int  # passed in total
    lap_times: Sequence[float]  # s, of the completed laps in order
    ending: str  # the name of an Ending, e.g. "RIM_HIT"

    def __post_init__(self) -> None:
        length = len(self.time)
        for name, width in (("pos_w", 3), ("vel_w", 3), ("quat", 4), ("action", 4)):
            shape = np.shape(getattr(self, name))
            if shape != (length, width):
                raise ValueError(
                    f"Flight.{name} has shape {shape}; it must be ({length}, {width}), one entry per time: "
                    "cut all arrays of a flight at the step where it ended."
                )
        if length < 1 or np.shape(self.target) != (length,):
            raise ValueError(
                f"Flight.target has shape {np.shape(self.target)} at {length} times; both must be equal, at "
                "least 1: give the gate to pass next at every step."
            )

    @property
    def speed(self) -> Float[np.ndarray, " T"]:
        """m/s."""
        return np.linalg.norm(self.vel_w, axis=-1)

    @property
    def crashed(self) -> bool:
        """Whether it ended before the time limit."""
        return self.ending.upper() not in UNHARMED

    @property
    def passes(self) -> Int[np.ndarray, " K"]:
        """Indices at which the drone is for the first time beyond the gate it passed."""
        return np.flatnonzero(np.diff(self.target)) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackGeometry:
    """The gates of a track (``envs.racing.track``) as plain arrays; see there for the frame of a gate."""

    gate_pos: Float[np.ndarray, "G 3"]  # centres, m
    gate_yaw: Float[np.ndarray, " G"]  # direction of passing, rad about z
    physical: Int[np.ndarray, " G"]  # the frame a passage goes through
    half_opening: float  # m
    rim: float  # width of the frame around the opening, m
    box_lo: Float[np.ndarray, " 3"]  # flight volume, m
    box_hi: Float[np.ndarray, " 3"]
    start_pos: Float[np.ndarray, " 3"]  # m
    start_yaw: float  # rad


def track_geometry(track: object) -> TrackGeometry:
    """Arrays of a racing ``Track``, copied to the host."""
    return _geometry({field.name: np.asarray(getattr(track, field.name)) for field in fields(TrackGeometry)})


def save_flights(
    path: Path,
    flights: Sequence[Flight],
    *,
    track: TrackGeometry | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes flights, the best to draw first, and the gates of their track; replaces the file whole.

    ``about`` holds JSON values: ``policy`` ("best", "latest" or "shipped"), its ``env_steps``, metrics of the
    evaluation that the flights are the first ones of.
    """
    arrays: dict[str, np.ndarray] = {"count": np.asarray(len(flights))}
    if about is not None:
        arrays["about"] = np.asarray(json.dumps(dict(about)))
    for index, flight in enumerate(flights):
        for field in fields(Flight):
            arrays[f"{index}/{field.name}"] = _plain(getattr(flight, field.name))
    if track is not None:
        arrays |= arrays_of(track)
    write_arrays(path, arrays)


@dataclass(frozen=True, kw_only=True)
class Flown:
    """Contents of a file of flights."""

    flights: list[Flight]  # in the order saved
    about: dict[str, Any]  # which policy flew; empty where the file has none
    track: TrackGeometry | None


def load_flown(path: Path) -> Flown:
    """All of a file, which a training may replace between two reads."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        about = json.loads(str(data["about"])) if "about" in data else {}
        if not isinstance(about, dict):
            raise ValueError(f"{path}: about is no JSON object")
        flights = [_flight(data, index) for index in range(int(data["count"]))]
        return Flown(flights=flights, about=about, track=read_track_geometry(data))


def load_flights(path: Path) -> list[Flight]:
    """The flights alone."""
    return load_flown(path).flights


def load_track_geometry(path: Path) -> TrackGeometry | None:
    """The track saved with the flights, None if there is none."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        return read_track_geometry(data)


def arrays_of(track: TrackGeometry) -> dict[str, np.ndarray]:
    """As a ``.npz`` keeps it, each array under ``course/NAME``."""
    return {f"course/{field.name}": _plain(getattr(track, field.name)) for field in fields(TrackGeometry)}


def read_track_geometry(data: "np.lib.npyio.NpzFile") -> TrackGeometry | None:
    """The track that ``arrays_of`` gave to this file, None if there is none."""
    if "course/gate_pos" not in data:
        return None
    return _geometry({field.name: data[f"course/{field.name}"] for field in fields(TrackGeometry)})


def _geometry(arrays: dict[str, np.ndarray]) -> TrackGeometry:
    values: dict[str, Any] = {name: v.item() if v.ndim == 0 else v for name, v in arrays.items()}
    return TrackGeometry(**values)


def _flight(data: "np.lib.npyio.NpzFile", index: int) -> Flight:
    arrays = {
        name: data[f"{index}/{name}"] for name in ("time", "pos_w", "vel_w", "quat", "action", "target")
    }
    return Flight(
        **arrays,
        gates=int(data[f"{index}/gates"]),
        lap_times=[float(t) for t in data[f"{index}/lap_times"]],
        ending=str(data[f"{index}/ending"]),
    )


def _plain(value: object) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
