"""The camera against a slow tracer of boxes, against the pinhole equations, and as part of the race."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor import quaternion
from s5wm.envs.racing import camera
from s5wm.envs.racing.camera import CameraConfig, Look, Pose, render, viewpoint
from s5wm.envs.racing.scene import GATE_DEPTH, build_scene, lobes
from s5wm.envs.racing.track import Figure8Config, SplitSConfig

CONFIG = CameraConfig()
COARSE = CameraConfig(pixels=16, supersample=1)
TRACK = Figure8Config().build()
SCENE = build_scene(TRACK, equal_colours=False)
CENTRE, RIGHT, LEFT = 0, 1, 4  # frames of the scene

shoot = jax.jit(render, static_argnums=0)
shoot_all = jax.jit(
    lambda config, scene, poses: jax.vmap(partial(render, config, scene))(poses), static_argnums=0
)


def level(x, y, z, yaw_deg=0.0):
    """A pose whose LENS is at the point given, the nose level; the picture is tilted up all the same."""
    quat = quaternion.from_yaw(jnp.deg2rad(jnp.asarray(yaw_deg, jnp.float32)))
    mount = quaternion.rotate(quat, jnp.array(CONFIG.mount))
    return Pose(jnp.array([x, y, z], jnp.float32) - mount, quat)


def random_poses(count, seed=0):
    k_pos, k_quat = jr.split(jr.key(seed))
    lo, hi = jnp.array([-8.5, -5.5, 0.3]), jnp.array([8.5, 5.5, 4.2])
    quat = jr.normal(k_quat, (count, 4))
    quat = quat / jnp.linalg.norm(quat, axis=-1, keepdims=True)
    return Pose(lo + (hi - lo) * jr.uniform(k_pos, (count, 3)), quat)


def pick(poses, index):
    return jax.tree.map(lambda leaf: leaf[index], poses)


# ---- a tracer written another way: four boxes a gate, corners and planes, one ray at a time, in doubles


def boxes(track):
    """Every box of every frame: centre, rotation (columns are its axes), half widths, frame number."""
    found, seen = [], []
    for row, frame in enumerate(np.asarray(track.physical)):
        if frame in seen:
            continue
        seen.append(frame)
        yaw = float(track.gate_yaw[row])
        axes = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        half, rim = float(track.half_opening), float(track.rim)
        across, deep = half + rim, 0.5 * GATE_DEPTH
        for sign in (-1.0, 1.0):
            post = np.array([0.0, sign * (half + rim / 2), 0.0])
            found.append((post, (deep, rim / 2, across), axes, row, len(seen) - 1))
            if sign > 0 or bool(track.has_lower_rim[row]):
                beam = np.array([0.0, 0.0, sign * (half + rim / 2)])
                found.append((beam, (deep, across, rim / 2), axes, row, len(seen) - 1))
    centres = np.asarray(track.gate_pos, np.float64)
    return [(centres[row] + axes @ mid, half, axes, frame) for mid, half, axes, row, frame in found]


def meets_box(eye, ray, box):
    """Depth and (axis, sign of the ray) of the first face that a ray meets from outside, or None."""
    centre, half, axes, _ = box
    local, towards = axes.T @ (eye - centre), axes.T @ ray
    best = None
    for axis in range(3):
        if abs(towards[axis]) < 1e-12:
            continue
        t = (-np.sign(towards[axis]) * half[axis] - local[axis]) / towards[axis]
        hit = local + t * towards
        others = [k for k in range(3) if k != axis]
        if t > 0.02 and all(abs(hit[k]) <= half[k] for k in others) and (best is None or t < best[0]):
            best = (t, 2 * axis + int(towards[axis] < 0))
    return best


def slow_picture(config, track, scene, pose):
    """Per pixel the colour of the nearest gate face, NaN where there is none."""
    eye, axes = (np.asarray(value, np.float64) for value in viewpoint(config, pose))
    faces = np.round(np.clip(np.asarray(scene.colours.faces), 0, 255))
    everything = boxes(track)
    size, half_width = config.pixels, np.tan(np.deg2rad(config.fov_deg) / 2)
    picture = np.full((size, size, 3), np.nan)
    for row in range(size):
        for column in range(size):
            right, down = ((2 * (k + 0.5) / size - 1) * half_width for k in (column, row))
            ray = axes @ np.array([1.0, -right, -down])
            hits = [(meets_box(eye, ray, box), box[3]) for box in everything]
            near = min(((*hit, frame) for hit, frame in hits if hit is not None), default=None)
            if near is not None:
                ground = (float(scene.box_lo[2]) - eye[2]) / ray[2] if ray[2] < 0 else np.inf
                if near[0] < ground:
                    picture[row, column] = faces[near[2], near[1]]
    return picture


@pytest.mark.parametrize("config", [Figure8Config(), SplitSConfig(), SplitSConfig(layout="classic")])
def test_gates_are_those_of_a_slow_tracer(config):
    track = config.build()
    scene = build_scene(track, equal_colours=False)
    poses = [level(0.7, -1.3, 1.1, 70.0), level(5.0, 2.0, 2.3, -120.0), pick(random_poses(1, seed=5), 0)]
    seen = 0
    for pose in poses:
        fast = np.asarray(shoot(COARSE, scene, pose), np.float64)
        slow = slow_picture(COARSE, track, scene, pose)
        is_gate = ~np.isnan(slow[..., 0])
        seen += is_gate.sum()
        # single precision may decide otherwise where a ray grazes an edge
        wrong = is_gate & (np.abs(fast - np.nan_to_num(slow)).max(-1) > 1)
        assert wrong.sum() <= 1
        palette = np.round(np.clip(np.asarray(scene.colours.faces), 0, 255)).reshape(-1, 3)
        like_gate = (np.abs(fast[:, :, None] - palette).max(-1) < 1).any(-1)
        assert (like_gate & ~is_gate).sum() <= 1
    assert seen > 20


def test_corners_lie_where_a_pinhole_puts_them():
    """The outline of the centre gate's opening, seen straight on, to half a pixel."""
    config = replace(CONFIG, uptilt_deg=0.0)
    image = np.asarray(shoot(config, SCENE, level(0.0, -2.5, 1.5, 90.0)), np.float64)
    near = 2.5 - GATE_DEPTH / 2
    rim = np.asarray(SCENE.colours.faces[CENTRE, 0])
    like = np.abs(image - rim).max(-1) < 3
    assert np.allclose(image[32, 32], image[32, 31], atol=60) and not like[32, 32]
    expected = [32 - 32 * 1.025 / near, 32 - 32 * 0.75 / near, 32 + 32 * 0.75 / near, 32 + 32 * 1.025 / near]
    for profile in (like[32], like[:, 32]):
        edges = np.flatnonzero(np.diff(profile.astype(int))) + 1
        covered = [edges[0], edges[-1]]
        np.testing.assert_allclose(covered, [expected[0], expected[-1]], atol=1.0)  # whole pixels
    # covered area in pixels, from the mixed colours at the edges: the width of the rim to a fraction of one
    column = image[32, 14:24, 2] + image[32, 14:24, 0] - image[32, 14:24, 1]
    full = rim[0] + rim[2] - rim[1]
    background = np.median(column[[0, -1]])
    width = np.sum((column - background) / (full - background))
    assert width == pytest.approx(expected[1] - expected[0], abs=0.5)
