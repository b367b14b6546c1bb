"""Everything of a run directory, the moving picture included; what is missing is skipped with a line."""

import contextlib
import json
import zipfile
import zlib
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from s5wm.errors import WriteError
from s5wm.plots import plot_flight, plot_run, plot_runs
from s5wm.plots.animation import render_lap
from s5wm.plots.drone import Pose, body_at, rotation
from s5wm.plots.run import FLIGHTS, PREDICTIONS, _whose
from s5wm.plots.style import PASSED, house_style, new_figure, save_figure
from s5wm.runs.directory import shortest_ends
from s5wm.runs.flights import load_flown, save_flights
from s5wm.runs.predictions import save_predictions


def names(paths):
    return {path.name for path in paths}


def test_full_run(run_dir, crash, laps, predictions, track):
    save_flights(run_dir / FLIGHTS, [crash, laps], track=track)
    save_predictions(run_dir / PREDICTIONS, predictions)
    (run_dir / "eval.json").write_text(json.dumps({"bound_s": 4.7}))
    said = []
    written = plot_run(run_dir, report=said.append)
    assert said == []
    stems = ("flight", "curves", "signals", "imagination")
    expected = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")} | {"lap.gif"}
    assert names(written) - {"lap.mp4"} == expected
    assert all(path.parent == run_dir / "plots" and path.stat().st_size > 5_000 for path in written)

    with Image.open(run_dir / "plots" / "lap.gif") as gif:
        assert gif.size == (600, 400) and gif.info["duration"] == 40
        # a crash is shown to its end
        assert gif.n_frames == 1 + round(float(crash.time[-1]) * 25)
    assert (run_dir / "plots" / "lap.gif").stat().st_size < 3_000_000


def test_empty_run_is_told_of_once_for_each_file(tmp_path, capsys):
    assert plot_run(tmp_path) == []
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert (
        captured.out == "" and len(lines) == 3 and lines[0].startswith("flight and animation not drawn: no ")
    )
    assert (
        "flights.npz" in captured.err and "metrics.jsonl" in captured.err and "s5wm imagine" in captured.err
    )


def test_torn_and_empty_files_do_not_stop_the_others(run_dir):
    save_flights(run_dir / FLIGHTS, [])
    (run_dir / PREDICTIONS).parent.mkdir()
    (run_dir / PREDICTIONS).write_bytes(b"PK\x03\x04 torn")
    said = []
    assert "curves.png" in names(plot_run(run_dir, report=said.append))
    (damaged,) = said  # a task without a drone has no flights, and nothing is said of them
    assert "imagination not drawn, because its file is damaged" in damaged


def test_several_runs_in_the_same_axes(run_dir, tmp_path):
    said = []
    written = plot_runs([run_dir, run_dir, tmp_path / "none"], tmp_path / "out", report=said.append)
    assert names(written) == {"curves.png", "curves.svg", "signals.png", "signals.svg"}
    assert len(said) == 1 and "none" in said[0]
    assert plot_runs([tmp_path / "none"], tmp_path, report=said.append) == []


def test_flight_picture_alone(tmp_path, laps, track):
    save_flights(tmp_path / FLIGHTS, [laps], track=track)
    before = plot_flight(tmp_path)[1].read_bytes()
    assert plot_flight(tmp_path)[1].read_bytes() == before  # the same picture is the same file


def test_the_flight_picture_says_whose_it_is_whatever_eval_json_says(tmp_path, laps, track):
    about = {"policy": "latest", "env_steps": 640_000, "episodes": 32, "success_rate": 0.25}
    save_flights(tmp_path / FLIGHTS, [laps], track=track, about=about)
    (tmp_path / "eval.json").write_text(json.dumps({"success_rate": 1.0, "episodes": 100}))  # of the best one
    flown = load_flown(tmp_path / FLIGHTS)
    caption = _whose(tmp_path, flown.about)
    assert caption == "latest policy, 0.64 M steps   ·   of the whole evaluation: success 25 % of 32 episodes"
    assert flown.about == about


def test_a_flipped_bit_of_a_file_of_flights_is_damage(tmp_path, laps, track):
    save_flights(tmp_path / FLIGHTS, [laps], track=track)
    whole = (tmp_path / FLIGHTS).read_bytes()
    rng, damaged = np.random.default_rng(0), 0
    for place in rng.integers(60, len(whole) - 60, 100):
        (tmp_path / FLIGHTS).write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with contextlib.suppress(zlib.error):
            try:
                load_flown(tmp_path / FLIGHTS)
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
                continue
            continue
        damaged = int(place)  # what only zlib notices
        break
    assert damaged
    (tmp_path / FLIGHTS).write_bytes(whole[:damaged] + bytes([whole[damaged] ^ 64]) + whole[damaged + 1 :])
    said = []
    plot_run(tmp_path, report=said.append)
    assert any("flight not drawn, because its file is damaged" in line for line in said)


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    paths = [tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0"]
    assert shortest_ends(paths) == ["a/seed-0", "b/seed-0"]
    assert shortest_ends(paths[:1]) == ["seed-0"]
    assert shortest_ends([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


def test_a_name_with_a_dot_keeps_its_end(tmp_path):
    with house_style():
        for name in ("lr-0.5", "lr-0.7.png"):
            save_figure(new_figure(1.0, 1.0), tmp_path / name)
    assert names(tmp_path.iterdir()) == {"lr-0.5.png", "lr-0.5.svg", "lr-0.7.png", "lr-0.7.svg"}
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        save_figure(new_figure(1.0, 1.0), tmp_path / "file" / "x")


def test_frames_of_the_best_lap_move_and_show_the_target(laps, track):
    with house_style():
        frames = list(islice(render_lap(laps, track, "x"), 31))
    assert frames[0].shape == (400, 600, 3)
    differ = np.any(frames[0] != frames[30], axis=-1)
    assert 300 < differ.sum() < 0.2 * differ.size  # what stands still does
    green = np.array([int(PASSED[i : i + 2], 16) for i in (1, 3, 5)])
    places = [np.argwhere((frame == green).all(-1)).mean(0) for frame in (frames[0], frames[30])]
    assert np.linalg.norm(places[0] - places[1]) > 50


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_about_each_axis(axis):
    half = np.deg2rad(35.0)
    quat = np.zeros(4)
    quat[0], quat[1 + axis] = np.cos(half), np.sin(half)
    after, before = np.eye(3)[(axis + 2) % 3], np.eye(3)[(axis + 1) % 3]
    np.testing.assert_allclose(
        rotation(quat) @ before, np.cos(2 * half) * before + np.sin(2 * half) * after, atol=1e-12
    )


def test_body_is_carried_along():
    level = Pose(pos_w=np.array([1.0, 2.0, 3.0]), quat=np.array([1.0, 0.0, 0.0, 0.0]))
    body = body_at(level, 2.0)
    np.testing.assert_allclose(body.arms[2], [[1.0, 2.0, 3.0], [1.275, 2.0, 3.0]])
    np.testing.assert_allclose(body.discs.mean(axis=(0, 1)), [1.0, 2.0, 3.0 + 2 * 0.075 * 0.15])
