"""Flights to draw: the time-optimal reference laps, and a run directory in progress."""

import json
from pathlib import Path

import numpy as np
import pytest

from s5wm.envs.racing.track import Figure8Config, SplitSConfig
from s5wm.runs.flights import Flight, TrackGeometry, track_geometry
from s5wm.runs.predictions import ErrorBand, OpenLoopPredictions

LAPS = Path(__file__).parents[2] / "data" / "racing_reference_laps.npz"


@pytest.fixture(scope="session")
def track() -> TrackGeometry:
    return track_geometry(SplitSConfig().build())


@pytest.fixture(scope="session")
def figure_8() -> TrackGeometry:
    """Its first and its fifth gate are one frame."""
    return track_geometry(Figure8Config().build())


def fly_reference(laps: int, *, ending: str = "TIME_LIMIT", rows: int | None = None) -> Flight:
    """The reference lap at its knots (40 ms), flown ``laps`` times and cut after ``rows``."""
    data = np.load(LAPS)
    t, pos, vel, passes = (data[f"split-s_rpg2026/{name}"] for name in ("t", "pos", "vel", "passes"))
    count = len(t) - 1
    index = np.arange(laps * count + 1)
    time = t[index % count] + t[-1] * (index // count)
    beyond = np.concatenate([passes[:-1] + lap * t[-1] for lap in range(laps + 1)])
    passed = np.searchsorted(beyond, time + 1e-4, side="right")
    flown = Flight(
        time=time,
        pos_w=pos[index % count],
        vel_w=vel[index % count],
        quat=np.tile(np.array([1.0, 0.0, 0.0, 0.0], np.float32), (len(time), 1)),
        action=np.zeros((len(time), 4), np.float32),
        target=np.maximum(passed, 1) % 7,
        gates=int(passed[-1]),
        lap_times=[float(t[-1])] * laps,
        ending=ending,
    )
    return flown if rows is None else cut(flown, rows)


def cut(flight: Flight, rows: int) -> Flight:
    names = ("time", "pos_w", "vel_w", "quat", "action", "target")
    return Flight(
        **{name: getattr(flight, name)[:rows] for name in names},
        gates=flight.gates,
        lap_times=[],
        ending=flight.ending,
    )


@pytest.fixture(scope="session")
def laps() -> Flight:
    return fly_reference(2)


@pytest.fixture(scope="session")
def crash() -> Flight:
    """Ends between the third and the fourth gate."""
    return fly_reference(1, ending="RIM_HIT", rows=50)


@pytest.fixture
def predictions(laps: Flight) -> OpenLoopPredictions:
    generator = np.random.default_rng(0)
    starts, horizon = np.arange(8) * 12, 20
    real = np.stack([laps.pos_w[s : s + horizon + 1] for s in starts])
    imagined = real[:, None] + np.cumsum(generator.normal(0, 0.02, (8, 5, horizon + 1, 3)), axis=2)
    imagined[-1, :, 15:] = np.nan  # that flight ended
    median = np.linspace(0.01, 0.5, horizon)
    band = ErrorBand(unit="m", median=median, lo=0.5 * median, hi=2 * median)
    reward = ErrorBand(unit="", median=0 * median, lo=0 * median, hi=median)
    return OpenLoopPredictions(
        dt=0.02, real_pos=real, imagined_pos=imagined, errors={"position": band, "reward": reward}
    )


def write_metrics(run_dir: Path, *, offset: float = 0.0) -> None:
    """Ten log steps, two evaluations, a NaN, and a last line that a crash has torn."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(1, 11):
        row = {
            "env_steps": 1000 * step,
            "minutes": 0.5 * step,
            "episode/return_nominal": offset + step,
            "loss/dyn": float(np.exp(-step)),
            "loss/flat": 1.0,
            "latent/kl": -1.0 * step,
        }
        if step % 5 == 0:
            row |= {"eval/return_nominal": offset + 2.0 * step, "eval/success": step / 10}
            row |= {"eval/lap_time": float("nan") if step == 5 else 5.5}
        lines.append(json.dumps(row))
    (run_dir / "metrics.jsonl").write_text("\n".join([*lines, '{"env_steps": 110']), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    write_metrics(path)
    return path
