"""The tracks are those of the sources, and consistent in themselves."""

import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.envs.racing.track import (
    BoxConfig,
    Figure8Config,
    FileTrackConfig,
    GateConfig,
    SplitSConfig,
    StartConfig,
)

ALL = [
    SplitSConfig(),
    SplitSConfig(layout="classic"),
    Figure8Config(),
    Figure8Config(layout="fig8B"),
]


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.layout)
def test_gates_and_start_lie_in_the_box(config):
    track = config.build()
    for point in (*track.gate_pos, track.start_pos):
        assert bool(jnp.all((point > track.box_lo) & (point < track.box_hi)))


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.layout)
def test_corners_are_the_opening(config):
    track = config.build()
    corners = np.asarray(track.corners)
    np.testing.assert_allclose(corners.mean(axis=1), track.gate_pos, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1), 1.5, atol=1e-5)
    offsets = corners - np.asarray(track.gate_pos)[:, None]
    np.testing.assert_allclose(np.einsum("gcx,gx->gc", offsets, track.normal), 0.0, atol=1e-5)
    # the first corner is upper left when passing
    np.testing.assert_allclose(np.einsum("gx,gx->g", offsets[:, 0], track.left), 0.75, atol=1e-5)
    np.testing.assert_allclose(offsets[:, 0, 2], 0.75, atol=1e-5)


def test_normal_and_left_of_a_gate_facing_y():
    track = Figure8Config().build()
    np.testing.assert_allclose(track.normal[0], [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(track.left[0], [-1.0, 0.0, 0.0], atol=1e-6)


def test_the_centre_of_the_figure_8_is_one_frame_flown_twice():
    track = Figure8Config().build()
    assert track.num_gates == 8
    assert track.physical.tolist() == [0, 1, 2, 3, 0, 4, 5, 6]
    assert SplitSConfig().build().physical.tolist() == list(range(7))
    assert track.structure.tolist() == [0, 1, 2, 3, 0, 5, 6, 7]


@pytest.mark.parametrize("layout", ["rpg2026", "classic"])
def test_frames_above_each_other_are_one_structure(layout):
    assert SplitSConfig(layout=layout).build().structure.tolist() == [0, 1, 2, 3, 3, 5, 6]


def test_frames_side_by_side_are_one_structure_whatever_their_order():
    places = ((0.0, 0.0), (0.0, 4.0), (0.0, 2.0), (0.0, 9.0), (1.0, 0.0))  # the third one joins the first two
    gates = tuple(GateConfig(pos=(x, y, 1.5), yaw_deg=0.0) for x, y in places)
    track = FileTrackConfig(
        gates=gates,
        start=StartConfig(pos=(-3.0, 0.0, 1.0)),
        box=BoxConfig(lo=(-5.0, -9.0, 0.0), hi=(9.0, 14.0, 5.0)),
    )
    assert track.build().structure.tolist() == [0, 0, 0, 3, 4]


def test_the_drone_of_the_2026_layout_looks_at_the_first_gate():
    track = SplitSConfig().build()
    towards = np.asarray(track.gate_pos[0] - track.start_pos)[:2]
    nose = np.array([np.cos(track.start_yaw), np.sin(track.start_yaw)])
    assert nose @ towards / np.linalg.norm(towards) == pytest.approx(1.0, abs=1e-6)


def test_the_track_is_a_loop():
    track = SplitSConfig().build()
    gates = [int(track.following(jnp.asarray(g))) for g in range(7)]
    assert gates == [1, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize("kind", [SplitSConfig, Figure8Config])
def test_unknown_layouts_are_refused(kind):
    # made by hand, since the type checker of the tests would refuse it first
    config = object.__new__(kind)
    object.__setattr__(config, "layout", "clasic")
    with pytest.raises(ValueError, match="'clasic'; it must be one of .*choose"):
        config.__post_init__()
