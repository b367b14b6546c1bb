"""A recorded flight between its samples, and its laps."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.runs.flights import Flight


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """Where a drone is at chosen times."""

    time: Float[np.ndarray, " M"]  # s
    pos_w: Float[np.ndarray, "M 3"]  # m
    speed: Float[np.ndarray, " M"]  # m/s
    quat: Float[np.ndarray, "M 4"]  # unit, w first, body to world


def motion_at(flight: Flight, times: Float[np.ndarray, " M"]) -> Motion:
    """Cubic in position through the recorded positions and velocities, linear in the rest."""
    t = np.asarray(flight.time, np.float64)
    pos, vel = np.asarray(flight.pos_w, np.float64), np.asarray(flight.vel_w, np.float64)
    quat = _continuous(np.asarray(flight.quat, np.float64))
    i = np.clip(np.searchsorted(t, times, side="right") - 1, 0, max(len(t) - 2, 0))
    j = np.minimum(i + 1, len(t) - 1)
    h = np.maximum(t[j] - t[i], 1e-9)[:, None]
    s = np.clip((times - t[i])[:, None] / h, 0.0, 1.0)
    where = (
        (1 + 2 * s) * (1 - s) ** 2 * pos[i]
        + s * (1 - s) ** 2 * h * vel[i]
        + s**2 * (3 - 2 * s) * pos[j]
        + s**2 * (s - 1) * h * vel[j]
    )
    turned = (1 - s) * quat[i] + s * quat[j]
    return Motion(
        time=np.asarray(times, np.float64),
        pos_w=where,
        speed=(1 - s[:, 0]) * flight.speed[i] + s[:, 0] * flight.speed[j],
        quat=turned / np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-9),
    )


def smooth(flight: Flight, *, per_step: int = 2) -> Motion:
    """The whole flight, finely enough for a line without corners."""
    t = np.asarray(flight.time, np.float64)
    grid = np.arange((len(t) - 1) * per_step + 1) / per_step
    return motion_at(flight, np.interp(grid, np.arange(len(t)), t))


def best_lap(flight: Flight) -> tuple[float, float] | None:
    """Beginning and end (s) of the fastest lap from the first gate to the first gate, None if there is none."""
    first = flight.passes[np.asarray(flight.target)[flight.passes - 1] == 0]
    if len(first) < 2:
        return None
    times = np.asarray(flight.time, np.float64)[first]
    fastest = int(np.argmin(np.diff(times)))
    return float(times[fastest]), float(times[fastest + 1])


def _continuous(quat: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    """The same attitudes without the jumps between q and -q."""
    jumps = np.sum(quat[1:] * quat[:-1], axis=-1) < 0.0
    sign = np.concatenate([[1.0], np.where(np.cumsum(jumps) % 2 == 1, -1.0, 1.0)])
    return quat * sign[:, None]
