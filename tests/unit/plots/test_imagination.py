"""OpenLoopPredictions of imagined futures: the file and the picture."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from s5wm.plots.imagination import DECADES, MOST_MOMENTS, draw_band, draw_imagination, spread, within
from s5wm.plots.run import draw_imagined
from s5wm.plots.scene import Extent
from s5wm.plots.style import house_style, new_figure, plain_number
from s5wm.runs.predictions import ErrorBand, OpenLoopPredictions, load_predictions, save_predictions


def test_predictions_survive_the_file(predictions, tmp_path):
    save_predictions(tmp_path / "plots" / "predictions.npz", predictions)
    found = load_predictions(tmp_path / "plots" / "predictions.npz")
    assert found.dt == pytest.approx(predictions.dt) and list(found.errors) == ["position", "reward"]
    np.testing.assert_allclose(found.imagined_pos, predictions.imagined_pos, rtol=1e-6)
    assert found.errors["position"].unit == "m"
    np.testing.assert_allclose(found.errors["position"].hi, predictions.errors["position"].hi, rtol=1e-6)
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["predictions.npz"]
    assert found.track is None


def test_a_folder_of_predictions_alone_has_the_gates_and_the_names_of_its_race(
    predictions, track, tmp_path, monkeypatch
):
    """As ``imagine --out`` leaves it."""
    names = {"task": "race/split-s", "agent": "s5wm", "size": "cpu"}
    save_predictions(tmp_path / "plots" / "imagination.npz", replace(predictions, track=track, about=names))
    drawn = []
    monkeypatch.setattr("s5wm.plots.run.save_figure", lambda figure, _: drawn.append(figure) or [])
    draw_imagined(tmp_path)
    (figure,) = drawn
    assert figure.texts[0].get_text() == "Imagination · race/split-s · s5wm · cpu"
    shown = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert "1" in shown  # the number of a gate
    found = load_predictions(tmp_path / "plots" / "imagination.npz").track
    np.testing.assert_allclose(found.gate_pos, track.gate_pos, rtol=1e-6)


def test_shapes_that_do_not_fit_are_named(predictions, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as where only users run it
    with pytest.raises(ValueError, match=r"imagined_pos has shape .* must be"):
        replace(predictions, imagined_pos=predictions.imagined_pos[:, :, :-1])
    with pytest.raises(ValueError, match="one value per horizon step"):
        ErrorBand(unit="m", median=np.zeros(3), lo=np.zeros(2), hi=np.zeros(3))


def test_picture_has_a_panel_per_group(predictions, track):
    with house_style():
        figure = draw_imagination(predictions, track, "Imagination")
        figure.canvas.draw()
    titles = [axes.get_title("left") for axes in figure.axes[2:]]
    assert titles == ["position, m", "reward"]
    median = figure.axes[2].get_lines()[0]
    assert median.get_xdata()[[0, -1]] == pytest.approx([0.02, 0.4])
    low, high = figure.axes[2].get_ylim()
    assert figure.axes[2].get_yscale() == "log"
    assert 0.0 < low < 0.005 and 1.0 < high < 2.0  # the band, from its lowest to its highest


def short_run(predictions: OpenLoopPredictions) -> OpenLoopPredictions:
    """A model that knows nothing yet: futures go anywhere, and errors are large."""
    away = np.linspace(0.0, 300.0, predictions.real_pos.shape[1])[:, None] * np.array([1.0, -0.5, -0.2])
    median = np.geomspace(1e-9, 151.0, 20)
    band = ErrorBand(unit="deg", median=median, lo=0.0 * median, hi=9.0 * median)
    return replace(
        predictions,
        imagined_pos=predictions.real_pos[:, None] + away[None, None],
        errors={"body_rates": band},
    )


def test_a_picture_after_a_short_run_is_readable(predictions, track):
    with house_style():
        figure = draw_imagination(short_run(predictions), track, "Imagination")
        figure.canvas.draw()
    plan, side, errors = figure.axes
    assert errors.get_title("left") == "body rates, deg"
    (figure_reached,) = errors.texts
    assert figure_reached.get_text() == "151 deg"
    assert figure_reached.xy == (1.0, 0.0)  # the corner below the line
    low, high = errors.get_ylim()
    assert high / low < 2 * 10**DECADES  # of eleven decades
    words = [text.get_text() for text in figure.findobj(Text)]
    assert not any("e+" in word for word in words)
    assert any("100% of them leave the view" in word for word in words)
    heights = (
        track.gate_pos[:, 2].min() - track.half_opening,
        track.gate_pos[:, 2].max() + track.half_opening,
    )
    for axes, across in ((plan, 0), (side, 0)):  # the track fills the view, however far futures go
        assert axes.get_xlim()[1] - axes.get_xlim()[0] < 2.0 * np.ptp(track.gate_pos[:, across])
    assert side.get_ylim()[0] <= heights[0] and side.get_ylim()[1] >= heights[1]


@pytest.mark.parametrize("worst", [1e9, np.inf])
def test_a_prediction_that_diverged_leaves_the_median_in_the_panel(predictions, worst):
    """The upper edge of the band leaves the panel; the median stays, and fills a good part of it."""
    median = np.linspace(0.01, 0.5, 20)
    band = ErrorBand(
        unit="m",
        median=median,
        lo=0.5 * median,
        hi=np.where(np.arange(20) > 9, worst, 2 * median),
        deviation=3.0,
    )
    with house_style():
        figure = draw_imagination(replace(predictions, errors={"position": band}), None, "x")
        figure.canvas.draw()
    errors = figure.axes[2]
    low, high = errors.get_ylim()
    assert low < 0.005 < 0.5 < 3.0 < high < 10.0
    (edge,) = [collection.get_paths()[0].vertices for collection in errors.collections]
    assert np.isfinite(edge).all() and edge[:, 1].max() > 1e6 * high


def test_an_axis_holds_the_medians_of_all_curves():
    """One world model that diverged beside one that is good."""
    figure = new_figure(4.0, 3.0)
    axes = figure.add_subplot()
    for scale in (1.0, 1e8):
        median = scale * np.linspace(0.01, 0.5, 20)
        band = ErrorBand(unit="m", median=median, lo=0.5 * median, hi=2 * median, deviation=3.0)
        draw_band(axes, "position", band, 0.02, "blue", shade=0.1)
        low, high = axes.get_ylim()
        assert low < 0.01 and scale * 0.5 < high


def test_the_median_stays_in_the_panel_beside_values_of_any_size():
    for deviation in (1e-9, 1e9):
        axes = new_figure(4.0, 3.0).add_subplot()
        median = np.full(20, 0.5)
        band = ErrorBand(unit="m", median=median, lo=1e-9 * median, hi=2 * median, deviation=deviation)
        draw_band(axes, "position", band, 0.02, "blue", shade=0.1)
        low, high = axes.get_ylim()
        assert low < 0.5 < high and high / low < 2 * 10**DECADES


def test_names_with_dollars_are_no_mathematics(predictions):
    """Two of them in a name of a metric, a folder or a unit of one's own."""
    bands = {"cost in $ or $x_{": predictions.errors["position"]}
    with house_style():
        figure = draw_imagination(replace(predictions, errors=bands), None, "runs/$a and $b")
        figure.canvas.draw()
    assert figure.texts[0].get_text() == "runs/$a and $b"
    assert figure.axes[2].get_title("left") == "cost in $ or $x {, m"
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if text.get_text())


def test_futures_end_where_they_leave_the_room():
    extent = Extent(lo=np.zeros(3), hi=np.ones(3))
    future = np.array([[0.5, 0.5, 0.5], [0.9, 0.5, 0.5], [1.1, 0.5, 0.5], [0.5, 0.5, 0.5]])
    kept = within(future[None, None], extent)[0, 0]
    np.testing.assert_array_equal(kept[:2], future[:2])
    assert np.isnan(kept[2:]).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (151.3, "151"),
        (1234.5, "1,234"),
        (12.0, "12"),
        (4.72, "4.7"),
        (0.0147, "0.015"),
        (0.0, "0"),
        (6e-6, "6.0e-06"),
    ],
)
def test_numbers_are_plain(value, text):
    assert plain_number(value) == text


def test_picture_without_track_or_groups(predictions):
    bare = OpenLoopPredictions(
        dt=0.02, real_pos=predictions.real_pos[:1], imagined_pos=predictions.imagined_pos[:1], errors={}
    )
    with house_style():
        figure = draw_imagination(bare, None, "Imagination")
        figure.canvas.draw()
    plan, side = figure.axes  # the flight from two sides, and no empty panel of errors
    for axes in (plan, side):
        lines = [len(c.get_segments()) for c in axes.collections if isinstance(c, LineCollection)]
        assert bare.imagined_pos.shape[1] in lines and 1 in lines  # every future, and the one real flight


def test_moments_are_spread():
    assert spread(3) == [0, 1, 2]
    assert len(spread(100)) == MOST_MOMENTS and spread(100)[0] == 0 and spread(100)[-1] == 99
