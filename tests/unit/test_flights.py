"""Recorded flights: the file gives back what was saved, and shapes that do not fit are named."""

import os
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from s5wm.envs.racing.laps import Ending
from s5wm.envs.racing.track import Figure8Config, SplitSConfig
from s5wm.errors import WriteError
from s5wm.runs.flights import (
    UNHARMED,
    Flight,
    load_flights,
    load_track_geometry,
    save_flights,
    track_geometry,
)


def flight(rows=6, *, ending="RIM_HIT", **changes):
    generator = np.random.default_rng(rows)
    values = {
        "time": 0.02 * np.arange(rows, dtype=np.float32),
        "pos_w": generator.normal(size=(rows, 3)),
        "vel_w": generator.normal(size=(rows, 3)),
        "quat": generator.normal(size=(rows, 4)),
        "action": generator.normal(size=(rows, 4)),
        "target": np.array([0, 0, 1, 1, 1, 2][:rows]),
    }
    return Flight(**(values | changes), gates=2, lap_times=[5.5, 5.25], ending=ending)


def test_flights_survive_the_file(tmp_path):
    saved = [flight(6), flight(3, ending="TIME_LIMIT")]
    save_flights(tmp_path / "new" / "flights.npz", saved)
    found = load_flights(tmp_path / "new" / "flights.npz")
    assert [f.ending for f in found] == ["RIM_HIT", "TIME_LIMIT"] and [len(f.time) for f in found] == [6, 3]
    for before, after in zip(saved, found, strict=True):
        for name in ("time", "pos_w", "vel_w", "quat", "action", "target"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-6)
        assert after.gates == 2 and after.lap_times == [5.5, 5.25]
    assert load_track_geometry(tmp_path / "new" / "flights.npz") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["flights.npz"]


def test_a_file_that_cannot_be_written_leaves_the_one_before_and_nothing_else(tmp_path, monkeypatch):
    save_flights(tmp_path / "flights.npz", [flight(6)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr(Path, "replace", full)
        with pytest.raises(WriteError, match="No space left on device"):
            save_flights(tmp_path / "flights.npz", [])
    assert len(load_flights(tmp_path / "flights.npz")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["flights.npz"]


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("config", [SplitSConfig(), Figure8Config()], ids=lambda c: c.name)
def test_track_survives_the_file(config, tmp_path):
    track = config.build()
    save_flights(tmp_path / "flights.npz", [], track=track_geometry(track))
    found = load_track_geometry(tmp_path / "flights.npz")
    assert load_flights(tmp_path / "flights.npz") == []
    np.testing.assert_allclose(found.gate_pos, track.gate_pos)
    np.testing.assert_array_equal(found.physical, track.physical)
    assert isinstance(found.rim, float) and found.rim == pytest.approx(float(track.rim))
    assert found.start_yaw == pytest.approx(float(track.start_yaw))


def test_passes_and_crashes():
    assert flight().passes.tolist() == [2, 5]
    np.testing.assert_allclose(flight().speed, np.linalg.norm(flight().vel_w, axis=1))
    crashes = {ending.name for ending in Ending if flight(ending=ending.name).crashed}
    assert crashes == {ending.name for ending in Ending} - set(UNHARMED) and len(UNHARMED) == 2


@pytest.mark.parametrize("change", [{"quat": np.zeros((6, 3))}, {"vel_w": np.zeros((5, 3))}])
def test_shapes_that_do_not_fit_are_named(change, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as where only users run it
    with pytest.raises(ValueError, match=rf"Flight.{next(iter(change))} has shape"):
        flight(**change)


def test_flight_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least"):
        flight(0, target=np.zeros(0, int))
