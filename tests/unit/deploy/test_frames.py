"""ODOMETRY in the frames that are understood, and in others."""

from dataclasses import replace

import numpy as np
import pytest

from s5wm.deploy.runtime.guard import InputCheck, Limits
from s5wm.deploy.runtime.mavlink import state_of
from s5wm.deploy.runtime.pilot import Pilot

from .test_runtime import CARD, Steady

common = pytest.importorskip("pymavlink.dialects.v20.common")


def odometry(frame, child, quality=0):
    numbers = [1.0, 2.0, 3.0, [0.5, 0.5, 0.5, 0.5], 4.0, 5.0, 6.0, 0.1, 0.2, 0.3]
    return common.MAVLink_odometry_message(0, frame, child, *numbers, [0.0] * 21, [0.0] * 21, quality=quality)


@pytest.mark.parametrize(
    ("frames", "velocity"),
    [
        ((1, 1), [4.0, -5.0, -6.0]),
        ((20, 20), [4.0, -5.0, -6.0]),
        # A third of a turn about (1, 1, 1): body x, y, z are world y, z, x.
        ((1, 12), [6.0, -4.0, -5.0]),
        ((20, 12), [6.0, -4.0, -5.0]),
    ],
)
def test_velocities_come_in_world_or_body_axes(frames, velocity):
    state = state_of(odometry(*frames), 0.0)
    np.testing.assert_allclose(state.vel_w, velocity, atol=1e-12)
    np.testing.assert_allclose(state.pos_w, [1.0, -2.0, -3.0])
    np.testing.assert_allclose(state.omega_b, [0.1, -0.2, -0.3], atol=1e-7)
    assert InputCheck(CARD, Limits()).problem(replace(state, pos_w=np.ones(3)), 0.0) is None


@pytest.mark.parametrize("frames", [(0, 12), (4, 12), (21, 12), (1, 20), (20, 1), (1, 8), (1, 21), (1, 0)])
def test_frames_that_are_not_known_are_refused_by_name(frames):
    state = state_of(odometry(*frames), 0.0)
    assert not np.isfinite(np.concatenate([state.pos_w, state.vel_w, state.quat, state.omega_b])).any()
    assert InputCheck(CARD, Limits()).problem(state, 0.0) == "frame"
    decision = Pilot(CARD, Steady(), Limits()).wait(state, 0.0)
    assert (decision.action, decision.problem) == (None, "frame")


@pytest.mark.parametrize(("quality", "problem"), [(-1, "quality"), (0, None), (1, None), (100, None)])
def test_an_odometry_that_has_failed_is_refused_by_name(quality, problem):
    state = replace(state_of(odometry(1, 12, quality), 0.0), pos_w=np.ones(3))
    assert InputCheck(CARD, Limits()).problem(state, 0.0) == problem
