"""The bounds say what was published, and stop a lap that is too good."""

from dataclasses import replace

import numpy as np
import pytest

from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.bounds import ImpossibleLapError, check_lap_times, lap_bound, point_mass_bound
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import Figure8Config, SplitSConfig

AGIL5 = QuadConfig()
UNLIFTED = QuadConfig(lift=0.0)


def test_interpolates_between_the_published_tolerances():
    """4.7939 s at 0.55 m and 4.6788 s at 0.75 m: a quarter of the way at 0.60 m."""
    assert lap_bound(SplitSConfig(), AGIL5, 0.15) == pytest.approx(
        4.7939 + 0.25 * (4.6788 - 4.7939), abs=1e-4
    )


def test_a_drone_of_another_size_has_another_bound():
    assert lap_bound(SplitSConfig(), AGIL5, 0.2) == pytest.approx(4.79388)
    assert lap_bound(SplitSConfig(), AGIL5, 0.0) == pytest.approx(4.67882)
    assert lap_bound(SplitSConfig(), AGIL5, 0.21) is None
    race = RacingConfig(drone_radius=0.1)
    assert race.bounds["eval/lap_time"] == pytest.approx(4.7939 + 0.5 * (4.6788 - 4.7939), abs=1e-4)


def test_one_tolerance_borrows_the_slope_of_the_same_track():
    bound = lap_bound(Figure8Config(), QuadConfig(thrust_to_weight=2.5), 0.15)
    assert bound == pytest.approx(3.5757 * (1.0 - 0.25 * (1.0 - 2.4539 / 2.5601)), abs=1e-3)


def test_nothing_is_invented():
    assert lap_bound(SplitSConfig(), QuadConfig(thrust_to_weight=4.2), 0.15) is None


def test_a_stronger_drone_bounds_a_weaker_one():
    assert point_mass_bound(SplitSConfig(), UNLIFTED) == pytest.approx(4.61404)
    weaker = replace(UNLIFTED, thrust_to_weight=4.2)  # than 4.6088, and stronger than 4.0
    assert point_mass_bound(SplitSConfig(), weaker) == pytest.approx(max(4.61404, 4.969 * np.sqrt(3.0 / 3.2)))
    assert point_mass_bound(SplitSConfig(), QuadConfig(name="kolibri")) == pytest.approx(3.867)


def test_a_weaker_drone_bounds_a_stronger_one_flown_slower():
    """The solved ratios themselves obey the law."""
    solved = [(3.3, 5.507), (4.0, 4.969), (4.6088, 4.61404), (5.0, 4.423), (6.0, 4.028), (6.5, 3.867)]
    for ratio, lap in solved:
        for stronger, faster in solved:
            assert faster > lap / max(1.0, np.sqrt((stronger - 1.0) / (ratio - 1.0))) - 1e-3
    bound = point_mass_bound(Figure8Config(), QuadConfig(name="kolibri"))
    assert bound == pytest.approx(2.42226 * np.sqrt(3.6088 / 5.4869), rel=1e-4)


def test_lift_pulls_like_thrust():
    """0.01 N / (m/s)^2 at 25 m/s are 0.85 of the weight."""
    ratio = 4.6088 + 0.01 * 25.0**2 / (0.752 * 9.81)
    assert point_mass_bound(Figure8Config(), AGIL5) == pytest.approx(
        2.42226 * np.sqrt(3.6088 / (ratio - 1.0)), rel=1e-3
    )
    assert point_mass_bound(SplitSConfig(), AGIL5) == pytest.approx(
        4.423 * np.sqrt(4.0 / (ratio - 1.0)), rel=1e-3
    )


def test_a_lap_that_beats_physics_is_an_error():
    track = SplitSConfig()
    check_lap_times(track, AGIL5, np.array([4.2, 5.0]))
    check_lap_times(track, UNLIFTED, np.array([4.7, 5.0]))
    check_lap_times(track, AGIL5, np.array([]))
    with pytest.raises(ImpossibleLapError, match="4.600 s"):
        check_lap_times(track, UNLIFTED, np.array([4.7, 4.6]))
    with pytest.raises(ImpossibleLapError, match="4.100 s"):
        check_lap_times(track, AGIL5, np.array([4.7, 4.1]))
