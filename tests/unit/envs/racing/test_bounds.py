"""The bounds say what was published, and stop a lap that is too good."""

import numpy as np
import pytest

from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.bounds import ImpossibleLapError, check_lap_times, lap_bound, point_mass_bound
from s5wm.envs.racing.track import Figure8Config, SplitSConfig

AGIL5 = QuadConfig()


def test_interpolates_between_the_published_tolerances():
    """4.7939 s at 0.55 m and 4.6788 s at 0.75 m: a quarter of the way at 0.60 m."""
    assert lap_bound(SplitSConfig(), AGIL5) == pytest.approx(4.7939 + 0.25 * (4.6788 - 4.7939), abs=1e-4)


def test_one_tolerance_borrows_the_slope_of_the_same_track():
    bound = lap_bound(Figure8Config(), QuadConfig(thrust_to_weight=2.5))
    assert bound == pytest.approx(3.5757 * (1.0 - 0.25 * (1.0 - 2.4539 / 2.5601)), abs=1e-3)


def test_nothing_is_invented():
    assert lap_bound(SplitSConfig(), QuadConfig(thrust_to_weight=4.2)) is None
    assert point_mass_bound(Figure8Config(), QuadConfig(name="kolibri")) is None


def test_a_stronger_drone_bounds_a_weaker_one():
    assert point_mass_bound(SplitSConfig(), AGIL5) == pytest.approx(4.61404)
    assert point_mass_bound(SplitSConfig(), QuadConfig(thrust_to_weight=4.2)) == pytest.approx(4.61404)
    assert point_mass_bound(SplitSConfig(), QuadConfig(name="kolibri")) == pytest.approx(3.867)


def test_a_lap_that_beats_physics_is_an_error():
    track = SplitSConfig()
    check_lap_times(track, AGIL5, np.array([4.7, 5.0]))
    check_lap_times(track, AGIL5, np.array([]))
    with pytest.raises(ImpossibleLapError, match="4.600 s"):
        check_lap_times(track, AGIL5, np.array([4.7, 4.6]))
