"""The camera against a slow tracer of boxes, against the pinhole equations, and as part of the race."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.envs.quadrotor import quaternion
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.quadrotor.state import hover_state
from s5wm.envs.racing import camera, raycast
from s5wm.envs.racing.camera import CameraConfig, Look, Pose, render, viewpoint
from s5wm.envs.racing.scene import GATE_DEPTH, build_scene, lobes
from s5wm.envs.racing.track import Figure8Config, SplitSConfig

CONFIG = CameraConfig()
COARSE = CameraConfig(pixels=16, supersample=1)
TRACK = Figure8Config().build()
SCENE = build_scene(TRACK, equal_colours=False)
CENTRE, RIGHT, LEFT = 0, 1, 4  # frames of the scene
BLACK = jnp.zeros(3)
DARK = {"ground": BLACK, "walls": jnp.zeros((4, 3)), "horizon": BLACK, "zenith": BLACK}

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
    pos = jr.uniform(k_pos, (count, 3)) * (hi - lo)[None] + lo[None]
    return Pose(pos, quat)


def tree_where(poses, index):
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
    poses = [
        level(0.7, -1.3, 1.1, 70.0),
        level(5.0, 2.0, 2.3, -120.0),
        tree_where(random_poses(1, seed=5), 0),
    ]
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


@pytest.mark.parametrize(
    "config", [CONFIG, COARSE, CameraConfig(pixels=20), CameraConfig(pixels=50, fov_deg=130.0)]
)
def test_leaving_out_frames_changes_no_picture(config):
    """One image after the other with the frames that each strip can show, against all frames in all images at once."""
    poses = random_poses(24, seed=9)
    all_frames = jax.jit(jax.vmap(partial(camera._render, config, raycast.trace, SCENE)))(poses)
    difference = np.abs(np.asarray(shoot_all(config, SCENE, poses), int) - np.asarray(all_frames, int))
    assert difference.max() <= 1  # another order of rounding
    assert (difference > 0).mean() < 1e-4


def test_few_frames_are_traced_and_none_that_shows_is_missing():
    """A frame of its own colour is seen only where it counts as visible."""
    own = np.zeros((SCENE.frame_pos.shape[0], 6, 3), np.float32)
    own[..., 0], own[..., 1] = 255.0, 10.0 * np.arange(len(own))[:, None]
    colours = replace(SCENE.colours, faces=jnp.asarray(own), **DARK)
    scene = replace(SCENE, colours=colours)
    grid = jax.tree.map(lambda leaf: leaf[0], camera._grid(COARSE))  # of one strip: the whole image

    @jax.jit
    def seen(pose):
        view = raycast.View(*viewpoint(COARSE, pose))
        return raycast.visible_frames(scene, view, grid), render(COARSE, scene, pose)

    shares = []
    for index in range(40):
        flagged, image = seen(tree_where(random_poses(40, seed=4), index))
        image = np.asarray(image, int)
        shown = {value // 10 for value in image[image[..., 0] == 255, 1]}
        assert shown <= set(np.flatnonzero(np.asarray(flagged)))
        shares.append(float(flagged.mean()))
    assert 0.1 < np.mean(shares) < 0.6


def edges(line):
    """Where a line of coverage in [0, 1] goes up and down, in pixels, from the partly covered ones."""
    covered = np.flatnonzero(line > 0)
    bars = np.split(covered, np.flatnonzero(np.diff(covered) > 1) + 1)
    return [place for bar in bars for place in (bar[0] + 1 - line[bar[0]], bar[-1] + line[bar[-1]])]


def silhouette(frame):
    """The scene with one white frame, all else black."""
    black = jax.tree.map(jnp.zeros_like, SCENE.colours)
    return replace(SCENE, colours=replace(black, faces=black.faces.at[frame].set(255.0)))


@pytest.mark.parametrize(("distance", "y", "z"), [(2.5, 0.0, 1.5), (3.1, 0.3, 1.62), (4.0, -0.37, 1.2)])
def test_edges_lie_where_a_pinhole_puts_them(distance, y, z):
    """Left to right and top to bottom through the opening: outer edges on the near face, inner ones too."""
    pose = level(-y, -distance, z, 90.0)  # the gate's left is -x of the world
    image = np.asarray(shoot(replace(CONFIG, uptilt_deg=0.0), silhouette(CENTRE), pose))[..., 0] / 255.0
    near, far = distance - GATE_DEPTH / 2, distance + GATE_DEPTH / 2
    row, column = (round(32 + 32 * offset / distance) for offset in (z - 1.5, y))
    for line, offset in ((image[row], y), (image[:, column], z - 1.5)):
        expected = [
            32 + 32 * (offset + reach) / depth
            for reach, depths in (
                (-1.025, (near,)),
                (-0.75, (near, far)),
                (0.75, (far, near)),
                (1.025, (near,)),
            )
            for depth in depths
        ]
        outer_lo, near_lo, far_lo, far_hi, near_hi, outer_hi = expected
        # of the two depths of an inner edge, the one that hides more of the opening is the edge
        wanted = [outer_lo, max(near_lo, far_lo), min(near_hi, far_hi), outer_hi]
        np.testing.assert_allclose(edges(line), wanted, atol=0.3)


def test_a_gate_shows_its_back_from_behind():
    front, back = (np.round(np.asarray(SCENE.colours.faces[CENTRE, k])) for k in (0, 1))
    config = replace(CONFIG, uptilt_deg=0.0)
    for y, yaw, expected in ((-3.0, 90.0, front), (3.0, -90.0, back)):
        image = np.asarray(shoot(config, SCENE, level(0.0, y, 1.5, yaw)), np.float64)
        bar = image[32, 32 - round(32 * 0.89 / 2.9)]
        np.testing.assert_allclose(bar, expected, atol=1)


def test_a_gate_does_not_vanish_edge_on():
    """It is a post as wide as the frame is deep; with a plane for a gate nothing would be left."""
    image = np.asarray(shoot(replace(CONFIG, uptilt_deg=0.0), silhouette(RIGHT), level(3.5, -0.5, 1.5, 90.0)))
    width = edges(image[32, :, 0] / 255.0)
    np.testing.assert_allclose(width, 32 + 16 * GATE_DEPTH / 1.975 * np.array([-1, 1]), atol=0.3)


def test_inside_the_rim_there_is_nothing_but_the_rim():
    image = np.asarray(shoot(CONFIG, silhouette(CENTRE), level(0.9, 0.0, 1.5, 90.0)))
    assert image.min() == 255
    through = np.asarray(shoot(CONFIG, silhouette(CENTRE), level(0.0, 0.0, 1.5, 90.0)))
    assert through.max() == 0  # the opening is wider than the view


def test_the_ground_hides_and_the_sky_does_not():
    image = np.asarray(shoot(CONFIG, SCENE, level(2.0, 4.0, 1.5, 0.0)), np.float64)
    image = image[:, :20]  # a gate is on the right
    sky, ground = image[:3].mean((0, 1)), image[-3:].mean((0, 1))
    assert sky[2] > sky[0] > ground[0] and ground[1] > ground[2]  # its tint at high y
    assert image[-8:].std() > 5.0  # its pattern


DOWN = jnp.array([1.0, 0.0, 1.0, 0.0]) / jnp.sqrt(2.0)
EAST = jnp.array([1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("places", "facing", "surface", "change"),
    [
        (((-6, -3, 1.0), (2, -3, 1.0)), DOWN, SCENE.colours.ground, (0.533, 0.0, -0.267)),
        (((1, -4, 1.0), (1, 4, 1.0)), DOWN, SCENE.colours.ground, (0.0, 0.8, -0.4)),
        (((8, -4, 2.2), (8, 2, 2.2)), EAST, SCENE.colours.walls[0], (0.0, 0.25, -0.125)),
    ],
    ids=["along x", "along y", "wall"],
)
def test_the_tint_tells_places_apart(places, facing, surface, change):
    """Floor and walls drift in tint from one end of the room to the other."""
    config = replace(CONFIG, uptilt_deg=0.0, mount=(0.0, 0.0, 0.0))
    here, there = (
        np.asarray(shoot(config, SCENE, Pose(jnp.array(place, jnp.float32), facing)), np.float64)
        for place in places
    )
    relative = (there - here).mean((0, 1)) / np.asarray(surface)
    change = np.asarray(change)
    # Checkers are lighter or darker in all channels alike.
    np.testing.assert_allclose(relative - relative[2], change - change[2], atol=0.02)


QUATS = ((1, 0, 0, 0), (1, 0, 0, 1), (0, 0, 0, 1), (1, 0, -1, 0), (1, 1, 0, 0), (0, 1, 0, 0))
AXES = [jnp.array(q) / np.linalg.norm(q) for q in QUATS]


def test_every_pose_has_a_picture():
    """Rays parallel to planes, lenses in planes, on rims, on the ground, outside of everything, far away."""
    untilted = replace(CONFIG, uptilt_deg=0.0, mount=(0.0, 0.0, 0.0), supersample=1, pixels=16)
    places = [(0.0, 0.0, 1.5), (3.5, 0.0, 1.5), (0.75, 0.0, 1.5), (1.025, 0.1, 0.475), (0.0, 0.0, 0.05)]
    places += [(9.0, 6.0, 4.5), (-30.0, 0.0, 1.0), (0.0, 0.0, -5.0), (0.0, 0.0, 100.0), (1e6, -1e6, 1e6)]
    pos = jnp.repeat(jnp.array(places, jnp.float32), len(AXES), axis=0)
    quat = jnp.tile(jnp.stack(AXES).astype(jnp.float32), (len(places), 1))
    with jax.debug_nans(True):
        images = np.asarray(shoot_all(untilted, SCENE, Pose(pos, quat)))
    assert images.shape == (len(pos), 16, 16, 3) and images.dtype == np.uint8
    assert (images.max((1, 2, 3)) > 40).all()  # nothing is black: no ray is lost


def test_a_picture_does_not_depend_on_its_batch():
    poses = random_poses(6)
    batch = np.asarray(shoot_all(COARSE, SCENE, poses))
    alone = np.stack([shoot(COARSE, SCENE, tree_where(poses, i)) for i in range(6)])
    # a compiler may round differently for another shape: a ray on an edge may fall to the other side
    assert (np.abs(batch.astype(int) - alone.astype(int)).max(-1) > 1).mean() < 1e-3
    assert np.array_equal(batch, shoot_all(COARSE, SCENE, poses))


def test_more_rays_only_smooth():
    pose = level(0.0, -6.0, 1.5, 90.0)
    fine = np.asarray(shoot(replace(CONFIG, pixels=128, supersample=1), SCENE, pose), np.float64)
    fine = fine.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(shoot(CONFIG, SCENE, pose)) - fine).max() <= 12.0  # texture fades with the pixel


def test_lobes_and_sides_are_told_apart_by_colour_and_need_not_be():
    np.testing.assert_array_equal(lobes(TRACK), [0, 1, 1, 1, 0, 2, 2, 2])
    np.testing.assert_array_equal(lobes(SplitSConfig().build()), np.ones(7))
    shown = np.asarray(SCENE.colours.faces)[[CENTRE, RIGHT, LEFT], :2].reshape(-1, 3)
    apart = np.linalg.norm(shown[:, None] - shown[None], axis=-1)[np.triu_indices(6, 1)]
    assert apart.min() > 50.0
    same = np.asarray(build_scene(TRACK, equal_colours=True).colours.faces)
    # light differs with the yaw, colour does not
    hue = same[:, :2] / same[:, :2].sum(-1, keepdims=True)
    np.testing.assert_allclose(hue, np.broadcast_to(hue[:1], hue.shape), atol=1e-5)


QUADS = [hover_state(QuadConfig().build(), jnp.array([0.3 * i, -3.0, 1.5]), jnp.array(1.5)) for i in range(5)]
take = jax.jit(camera.take_picture, static_argnums=0)


def flown(config):
    """The images of an episode."""
    state = camera.begin(config, QUADS[0], jr.key(3))
    images = [take(config, SCENE, state)]
    for index, quad in enumerate(QUADS[1:]):
        state = camera.follow(state, quad, jr.key(index))
        images.append(take(config, SCENE, state))
    return np.stack(images)


def test_an_image_comes_late():
    prompt, late = flown(COARSE), flown(replace(COARSE, latency_steps=2))
    assert np.any(prompt[0] != prompt[1])
    np.testing.assert_array_equal(late, prompt[[0, 0, 0, 1, 2]])


def test_what_differs_from_episode_to_episode():
    """Nothing by default; light and gains are factors, blur smooths, noise is new in every image."""
    wild = replace(COARSE, light=0.3, colour=0.2, noise=0.1, blur=0.9)
    state = camera.begin(wild, QUADS[0], jr.key(0))
    assert state.look is not None and camera.begin(COARSE, QUADS[0], jr.key(0)).look is None
    plain = np.asarray(take(COARSE, SCENE, camera.begin(COARSE, QUADS[0], jr.key(0))), np.float64)

    def shown(grain=0, **look):
        values = {"light": 1.0, "gains": np.ones(3), "noise": 0.0, "blur": 0.0} | look
        fixed = Look(**{name: jnp.asarray(value, jnp.float32) for name, value in values.items()})
        changed = replace(state, look=fixed, grain=jnp.asarray(grain, jnp.uint32))
        return np.asarray(take(wild, SCENE, changed), np.float64)

    np.testing.assert_array_equal(shown(), plain)
    np.testing.assert_allclose(shown(light=0.7), 0.7 * plain, atol=1.01)
    np.testing.assert_allclose(shown(gains=np.array([1.0, 0.8, 0.9])), plain * [1.0, 0.8, 0.9], atol=1.01)
    assert np.abs(np.diff(shown(blur=0.9), axis=1)).sum() < 0.9 * np.abs(np.diff(plain, axis=1)).sum()
    noise = shown(noise=8.0, grain=1) - plain, shown(noise=8.0, grain=2) - plain
    assert noise[0].std() == pytest.approx(8.0, rel=0.2) and abs(noise[0].mean()) < 1.0
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.15


def test_looks_are_drawn_from_their_ranges():
    wild = replace(COARSE, light=0.3, colour=0.2, noise=0.1, blur=0.9)
    looks = jax.vmap(lambda key: camera.begin(wild, QUADS[0], key).look)(jr.split(jr.key(0), 500))
    assert looks is not None
    for values, lo, hi in (
        (looks.light, 0.7, 1.3),
        (looks.gains, 0.8, 1.2),
        (looks.noise, 0.0, 25.5),
        (looks.blur, 0.0, 0.9),
    ):
        drawn, slack = np.asarray(values), 0.05 * (hi - lo)
        assert lo <= drawn.min() < lo + slack and hi - slack < drawn.max() <= hi


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pixels", 63),
        ("pixels", 4),
        ("fov_deg", 180.0),
        ("supersample", 3),
        ("latency_steps", 5),
        ("latency_steps", -1),
        ("uptilt_deg", float("nan")),
        ("light", 1.0),
        ("noise", -0.1),
    ],
)
def test_bad_cameras_are_refused(field, value):
    with pytest.raises(ValueError, match=f"CameraConfig.{field}"):
        CameraConfig(**{field: value})


def test_where_the_camera_looks():
    quad = hover_state(QuadConfig().build(), jnp.array([1.0, 2.0, 1.5]), jnp.deg2rad(90.0))
    tilt = np.deg2rad(CONFIG.uptilt_deg)
    ahead = quad.pos_w + 4.0 * jnp.array([0.0, np.cos(tilt), np.sin(tilt)])
    aside = quad.pos_w + jnp.array([2.0, 0.0, 0.0])
    for eye, place, expected in (
        (CONFIG, ahead, 0.0),
        (CONFIG, 2.0 * quad.pos_w - ahead, 2.0),
        (CONFIG, aside, 1.0),
        (None, quad.pos_w + jnp.array([0.0, 3.0, 0.0]), 0.0),
        (None, ahead, 1.0 - np.cos(tilt)),
    ):
        np.testing.assert_allclose(camera.off_axis(eye, quad, place), expected, atol=1e-6)
