"""The flight picture: what is coloured how, which lap is the best, where a point is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba

from s5wm.plots.camera import clearest_azimuth, from_above, from_the_side, in_perspective
from s5wm.plots.drone import Pose
from s5wm.plots.flight import CLEAR, Caption, describe, draw_flight, gate_colours
from s5wm.plots.motion import Motion, best_lap, motion_at, smooth
from s5wm.plots.scene import frame_colours
from s5wm.plots.stage import Moment, Stage
from s5wm.plots.style import MISSED, PASSED, SPEED, UNREACHED, house_style, save_figure, speed_scale
from s5wm.runs.flights import Flight


def test_gates_are_passed_missed_or_not_reached(laps, crash):
    assert gate_colours(laps, 7) == [PASSED] * 7
    # it begins just beyond the first gate and hits the fourth
    assert gate_colours(crash, 7) == [UNREACHED, PASSED, PASSED, MISSED, UNREACHED, UNREACHED, UNREACHED]


def short_flight(flight: Flight, rows: slice) -> Flight:
    names = ("time", "pos_w", "vel_w", "quat", "action", "target")
    return replace(
        flight, **{name: getattr(flight, name)[rows] for name in names}, lap_times=[], ending="GROUND"
    )


def test_a_frame_that_is_passed_twice_a_lap_has_the_worst_colour_of_its_passages(figure_8):
    assert figure_8.physical[0] == figure_8.physical[4]
    for first, fifth, worst in (
        (PASSED, MISSED, MISSED),
        (MISSED, PASSED, MISSED),
        (PASSED, UNREACHED, PASSED),
        (UNREACHED, UNREACHED, UNREACHED),
    ):
        colours = [first, UNREACHED, UNREACHED, UNREACHED, fifth, UNREACHED, UNREACHED, UNREACHED]
        found = frame_colours(figure_8, colours)
        assert found == [worst, *colours[1:4], worst, *colours[5:]]


def test_a_miss_of_the_second_passage_is_red(figure_8):
    """Frame and label: the flight passed gates 1 to 4 and crashed into the frame of gates 1 and 5."""
    count = 41
    target = np.repeat(np.arange(5), [8, 8, 8, 8, 9]).astype(np.int32)
    flight = Flight(
        time=0.1 * np.arange(count),
        pos_w=np.linspace(figure_8.start_pos, figure_8.gate_pos[4], count),
        vel_w=np.ones((count, 3)),
        quat=np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        action=np.zeros((count, 4)),
        target=target,
        gates=4,
        lap_times=[],
        ending="RIM_HIT",
    )
    with house_style():
        figure = draw_flight([flight], figure_8, Caption(title="race/figure-8-state"))
    for axes in figure.axes[:3]:
        labels = {text.get_text(): text.get_color() for text in axes.texts}
        assert labels["1·5"] == MISSED
    faces = np.concatenate([c.get_facecolor() for c in figure.axes[0].collections if len(c.get_facecolor())])
    assert (faces == to_rgba(MISSED)).all(axis=1).sum() == 4 + 1  # the bars of one frame, and the cross


@pytest.mark.parametrize(("target", "frame"), [(0, 0), (4, 0), (5, 4)])
def test_the_target_of_a_moving_picture_is_its_frame(figure_8, target, frame):
    stage = Stage(figure_8, [], "x", trace=None)
    pose = Pose(pos_w=np.array([0.0, 0.0, 9.0]), quat=np.array([1.0, 0.0, 0.0, 0.0]))
    tail = Motion(
        time=np.arange(2.0), pos_w=np.zeros((2, 3)), speed=np.zeros(2), quat=np.tile(pose.quat, (2, 1))
    )
    stage.draw(Moment(pose=pose, target=target, tail=tail), speed_scale(np.ones(2)), "")
    for view in stage._views:
        place = np.argsort(-view.scene.camera.project(np.stack(view.scene.bars))[1].mean(axis=1))
        frames = np.asarray(view.scene.bar_frames)[place]
        colours = [artist.get_facecolor() for artist in (view.behind, view.front)]
        green = (np.concatenate([c for c in colours if len(c)]) == to_rgba(PASSED)).all(axis=1)
        assert set(frames[green]) == {frame} and green.sum() == 4


def test_gates_of_the_large_view_keep_their_numbers(laps, track):
    """The flight lasts from the fourth gate to the fifth alone."""
    begin = int(laps.passes[np.asarray(laps.target)[laps.passes - 1] == 3][0])
    short = short_flight(laps, slice(begin - 4, begin + 4))
    with house_style():
        figure = draw_flight([short], track, Caption(title="x"))
    assert "the whole track is on the right" in figure.axes[0].get_title("left")
    numbers = {
        number for text in figure.axes[0].texts for number in text.get_text().split("·") if number.isdigit()
    }
    assert "start" not in {text.get_text() for text in figure.axes[0].texts}  # it is far away
    near = np.linalg.norm(track.gate_pos - short.pos_w.mean(0), axis=-1) < 1.5
    assert set(map(str, np.flatnonzero(near) + 1)) <= numbers and "4" in numbers and "1" not in numbers


def test_description(laps, crash):
    assert "laps 5." in describe(laps) or "laps 4." in describe(laps)
    assert "without a crash" in describe(laps, "success 98 %") and "success 98 %" in describe(
        laps, "success 98 %"
    )
    assert "crash: rim hit" in describe(crash) and "no complete lap" in describe(crash)
    assert "lap" not in describe(crash, has_gates=False)


def test_picture_shows_gates_and_speeds(laps, crash, track, tmp_path):
    with house_style():
        figure = draw_flight([crash, laps], track, Caption(title="race/split-s"))
        png, svg = save_figure(figure, tmp_path / "deep" / "flight")
    assert 100_000 < png.stat().st_size < 1_500_000 and 50_000 < svg.stat().st_size < 2_000_000
    assert {f"{gate}" for gate in (1, 2, 3, 6, 7)} <= {text.get_text() for text in figure.axes[0].texts}
    drawn = np.concatenate(
        [c.get_colors() for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    )
    fast = SPEED(speed_scale(crash.speed)(crash.speed.max() - 0.2))
    assert np.abs(drawn - np.asarray(fast)).max(axis=1).min() < 0.1
    faces = np.concatenate([c.get_facecolor() for c in figure.axes[0].collections if len(c.get_facecolor())])
    assert (faces == to_rgba(MISSED)).all(axis=1).any() and (faces == to_rgba(UNREACHED)).all(axis=1).any()
    for axes in figure.axes[:3]:  # the flight lies inside the picture
        assert axes.get_aspect() == 1.0


def test_no_drone_lies_on_a_number_and_no_number_on_a_frame(laps, track):
    with house_style():
        figure = draw_flight([laps], track, Caption(title="x"))
    main, _, side = figure.axes[:3]
    words = [np.array(text.get_position()) for text in main.texts if text.get_text()]
    drones = [c for c in main.collections if isinstance(c, PolyCollection) and c.get_zorder() == 900.0]
    centres = [np.concatenate([path.vertices for path in drone.get_paths()]).mean(0) for drone in drones]
    assert len(centres) > 5
    assert min(np.linalg.norm(centre - word) for centre in centres for word in words) > CLEAR
    places = {text.get_text(): text.get_position() for text in side.texts}
    height = track.half_opening + track.rim  # gate 4 stands on gate 5
    assert places["5"][1] < track.gate_pos[4, 2] - height and places["4"][1] > track.gate_pos[3, 2] + height
    assert side.get_ylim()[0] < places["5"][1]


def test_plan_and_elevation_hold_the_flight(laps, track):
    with house_style():
        figure = draw_flight([laps], track, Caption(title="x"))
    plan, side = figure.axes[1], figure.axes[2]
    for axes, columns in ((plan, (0, 1)), (side, (0, 2))):
        for (lo, hi), column in zip((axes.get_xlim(), axes.get_ylim()), columns, strict=True):
            assert lo < laps.pos_w[:, column].min() and laps.pos_w[:, column].max() < hi


def test_a_crash_at_once_fills_the_large_view(laps, track):
    short = short_flight(laps, slice(8))
    with house_style():
        figure = draw_flight([short], track, Caption(title="x"))
        whole = draw_flight([laps], track, Caption(title="x"))
    spans = [np.ptp(picture.axes[0].get_xlim()) for picture in (figure, whole)]
    assert spans[0] < 0.5 * spans[1]
    assert "the whole track is on the right" in figure.axes[0].get_title("left")
    assert whole.axes[0].get_title("left") == ""
    assert np.ptp(figure.axes[1].get_xlim()) > 0.8 * np.ptp(whole.axes[1].get_xlim())


def test_flight_of_one_row_without_gates(crash):
    names = ("time", "pos_w", "vel_w", "quat", "action", "target")
    short = replace(crash, **{name: getattr(crash, name)[:1] for name in names})
    with house_style():
        figure = draw_flight([short], None, Caption(title="hover"))
    assert len(figure.axes) == 4  # three views and the colour bar


def test_speed_scale_begins_at_rest_and_holds_the_top_speed(laps):
    scale = speed_scale(laps.speed)
    assert scale.vmin == 0.0 and 0 <= scale.vmax - laps.speed.max() < 1.0


def test_best_lap_runs_from_first_gate_to_first_gate(laps, crash):
    assert best_lap(crash) is None
    begin, end = best_lap(laps)
    assert end - begin == pytest.approx(laps.lap_times[0], abs=0.05)


def test_motion_passes_through_the_record(laps):
    found = motion_at(laps, laps.time)
    np.testing.assert_allclose(found.pos_w, laps.pos_w, atol=1e-5)
    np.testing.assert_allclose(found.speed, laps.speed, rtol=1e-5)
    assert len(smooth(laps, per_step=3).time) == 3 * (len(laps.time) - 1) + 1


def test_attitude_goes_the_short_way_between_q_and_minus_q(laps):
    signs = np.where(np.arange(len(laps.time)) % 2 == 0, 1.0, -1.0)[:, None]
    flipped = replace(laps, quat=laps.quat * signs)
    found = motion_at(flipped, laps.time[:-1] + 0.01)
    np.testing.assert_allclose(np.abs(found.quat[:, 0]), 1.0)


def test_views_from_above_and_from_the_side():
    point = np.array([1.0, 2.0, 3.0])
    flat, depth = from_above().project(point)
    np.testing.assert_allclose([*flat, depth], [1.0, 2.0, -3.0])
    flat, depth = from_the_side().project(point)
    np.testing.assert_allclose([*flat, depth], [1.0, 3.0, 2.0])


def test_perspective_keeps_up_and_makes_near_things_large():
    camera = in_perspective(np.array([-5.0, -5.0, 0.0]), np.array([5.0, 5.0, 4.0]), azimuth=-90.0)
    middle = np.array([0.0, 0.0, 2.0])
    flat, depth = camera.project(
        np.stack([middle, middle + [0, 0, 1], middle + [1, 0, 0], middle + [0, -1, 0]])
    )
    np.testing.assert_allclose(flat[0], 0.0, atol=1e-9)
    assert flat[1, 1] > 0.5 and abs(flat[1, 0]) < 1e-9
    assert flat[2, 0] == pytest.approx(1.0) and depth[3] < depth[0]
    near, _ = camera.project(np.array([[0.0, -4.0, 2.0], [1.0, -4.0, 2.0]]))
    assert near[1, 0] - near[0, 0] > 1.05


def test_no_gate_is_seen_edge_on(track):
    azimuth = np.deg2rad(clearest_azimuth(track.gate_yaw))
    assert np.abs(np.cos(azimuth - track.gate_yaw)).min() > 0.25
