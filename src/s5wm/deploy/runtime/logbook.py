"""Records of a flight of the runtime: its periods, a summary, and the flight for ``s5wm plot``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from s5wm.deploy.card import FlightCard, TrackCard
from s5wm.deploy.runtime.loop import Period
from s5wm.deploy.runtime.pilot import Mode
from s5wm.runs.files import write_json
from s5wm.runs.flights import Flight, TrackGeometry, save_flights

RUNTIME = "runtime.json"

MODES = tuple(mode.value for mode in Mode)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a flight, where the target knows it."""

    ending: str
    gates: int
    lap_times: Sequence[float]


@dataclass(eq=False)
class Logbook:
    """Keeps every period in memory; files are written after the flight."""

    card: FlightCard
    deadline: float  # s
    periods: list[Period] = field(default_factory=list[Period])

    def add(self, period: Period) -> None:
        """Append a period."""
        self.periods.append(period)

    def summary(self, outcome: Outcome) -> dict[str, Any]:
        """Metrics: modes, problems, delays in ms, and those of the target."""
        latency = np.array([period.latency for period in self.periods]) * 1e3
        wake = np.array([period.wake for period in self.periods]) * 1e3
        skipped = sum(period.skipped for period in self.periods)
        return {
            "run": self.card.origin.run,
            "periods": len(self.periods),
            "modes": Counter(period.mode.value for period in self.periods),
            "problems": Counter(period.problem for period in self.periods if period.problem),
            "handed_over": self._handed_over(),
            "deadline_ms": 1e3 * self.deadline,
            "deadline_misses": int((latency > 1e3 * self.deadline).sum()),
            "periods_skipped": skipped,
            "latency_ms": _quantiles(latency),
            "wake_ms": _quantiles(wake),
            "gates": outcome.gates,
            "lap_times": [float(lap) for lap in outcome.lap_times],
            "ending": outcome.ending,
        }

    def _handed_over(self) -> str | None:
        """The problem for which the policy lost its place; None where it has kept it until the end."""
        fallback = (Mode.HOVER, Mode.OPEN_LOOP, Mode.SILENT)
        return next((period.problem for period in self.periods if period.mode in fallback), None)

    def save(self, folder: Path, outcome: Outcome) -> dict[str, Any]:
        """``flights.npz`` (where an estimate was seen), ``periods.npz`` and ``runtime.json``; the summary."""
        folder.mkdir(parents=True, exist_ok=True)
        metrics = self.summary(outcome)
        write_json(folder / RUNTIME, metrics)
        np.savez_compressed(
            folder / "periods.npz",
            time=np.array([period.time for period in self.periods]),
            wake=np.array([period.wake for period in self.periods]),
            latency=np.array([period.latency for period in self.periods]),
            mode=np.array([MODES.index(period.mode.value) for period in self.periods], np.int8),
            modes=np.array(MODES),
        )
        if flight := self._flight(outcome):
            about = {"policy": "exported", "env_steps": self.card.origin.env_steps}
            track = None if self.card.track is None else track_geometry(self.card.track)
            save_flights(folder / "flights.npz", [flight], track=track, about=about)
        return metrics

    def _flight(self, outcome: Outcome) -> Flight | None:
        rows = [
            (p, p.state) for p in self.periods if p.state is not None and np.isfinite(p.state.pos_w).all()
        ]
        if not rows:
            return None
        actions = [np.zeros(self.card.actions) if p.action is None else p.action for p, _ in rows]
        states = {
            name: np.array([getattr(state, name) for _, state in rows], np.float32)
            for name in ("pos_w", "vel_w", "quat")
        }
        return Flight(
            time=np.array([p.time for p, _ in rows], np.float32),
            **states,
            action=np.array(actions, np.float32),
            target=np.array([p.target for p, _ in rows], np.int32),
            gates=outcome.gates,
            lap_times=outcome.lap_times,
            ending=outcome.ending,
        )


def track_geometry(track: TrackCard) -> TrackGeometry:
    """The track as it is drawn."""
    return TrackGeometry(
        gate_pos=np.array(track.gate_pos, np.float32),
        gate_yaw=np.array(track.gate_yaw, np.float32),
        physical=np.array(track.physical, np.int32),
        half_opening=track.half_opening,
        rim=track.rim,
        box_lo=np.array(track.box_lo, np.float32),
        box_hi=np.array(track.box_hi, np.float32),
        start_pos=np.array(track.start_pos, np.float32),
        start_yaw=track.start_yaw,
    )


def _quantiles(values: np.ndarray) -> Mapping[str, float]:
    if not values.size:
        return {}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(values.max())}
