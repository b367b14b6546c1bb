"""Fans of imagined futures: the file and the picture."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from s5wm.fans import ErrorBand, Fans, load_fans, save_fans
from s5wm.plots.imagination import MOST_MOMENTS, draw_imagination, spread
from s5wm.plots.style import house_style


def test_fans_survive_the_file(fans, tmp_path):
    save_fans(tmp_path / "plots" / "fans.npz", fans)
    found = load_fans(tmp_path / "plots" / "fans.npz")
    assert found.dt == pytest.approx(fans.dt) and list(found.errors) == ["position", "reward"]
    np.testing.assert_allclose(found.imagined_pos, fans.imagined_pos, rtol=1e-6)
    assert found.errors["position"].unit == "m"
    np.testing.assert_allclose(found.errors["position"].hi, fans.errors["position"].hi, rtol=1e-6)
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["fans.npz"]


def test_shapes_that_do_not_fit_are_named(fans, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as where only users run it
    with pytest.raises(ValueError, match=r"imagined_pos has shape .* must be"):
        replace(fans, imagined_pos=fans.imagined_pos[:, :, :-1])
    with pytest.raises(ValueError, match="one value per horizon step"):
        ErrorBand(unit="m", median=np.zeros(3), lo=np.zeros(2), hi=np.zeros(3))


def test_picture_has_a_panel_per_group(fans, course):
    with house_style():
        figure = draw_imagination(fans, course, "Imagination")
        figure.canvas.draw()
    titles = [axes.get_title("left") for axes in figure.axes[2:]]
    assert titles == ["position, m", "reward"]
    median = figure.axes[2].get_lines()[0]
    assert median.get_xdata()[[0, -1]] == pytest.approx([0.02, 0.4])
    assert figure.axes[2].get_ylim()[0] == 0.0 and figure.axes[2].get_ylim()[1] >= 1.0


def test_picture_without_course_or_groups(fans):
    bare = Fans(dt=0.02, real_pos=fans.real_pos[:1], imagined_pos=fans.imagined_pos[:1], errors={})
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
