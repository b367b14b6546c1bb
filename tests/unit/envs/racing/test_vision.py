"""The race seen by a camera: what is observed, what is remembered, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from s5wm.actions import Box
from s5wm.envs.base import AbstractCameraEnv, AbstractEnv, EnvSpec, unwrapped
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.bounds import lap_bound, point_mass_bound
from s5wm.envs.racing.camera import CameraConfig
from s5wm.envs.racing.observation import View, observe_b
from s5wm.envs.racing.reward import RewardConfig
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.tasks import figure_8_by_camera
from s5wm.envs.racing.track import Figure8Config
from s5wm.envs.wrappers import AutoReset, TimeLimit
from s5wm.experiments.presets import task_config
from s5wm.runs.codec import override
from s5wm.types import MixedObs, Reward, TimeStep

COARSE = CameraConfig(pixels=8, supersample=1, latency_steps=1, noise=0.1, light=0.2)
# Without the view term, the one thing that a camera changes of the race itself.
SEEN = replace(figure_8_by_camera(), camera=COARSE, episode_seconds=0.24, reward=RewardConfig())
BLIND = replace(SEEN, camera=None)
STEPS = 40


@eqx.filter_jit
def stream(env, seed):
    """Rows of an endless stream under wild actions, with the states they show."""
    k_reset, k_steps, k_actions = jr.split(jr.key(seed), 3)
    actions = jr.uniform(k_actions, (STEPS, 4), minval=-1.0)

    def row(carry, x):
        state, timestep = carry
        return env.step(state, x[0], x[1]), (state, timestep)

    last, rows = jax.lax.scan(row, env.reset(k_reset), (actions, jr.split(k_steps, STEPS)))
    return rows


@pytest.fixture(scope="module")
def seen():
    with jax.debug_key_reuse(True):  # no key is used twice
        return stream(AutoReset(SEEN.build()), 0)


def test_the_task_is_the_one_of_images():
    task = task_config("race/figure-8")
    assert isinstance(task, RacingConfig) and task.camera == CameraConfig()
    spec = task.build().spec
    assert spec.obs_shape == (64, 64, 3) and spec.obs_dtype == np.uint8
    assert spec.privileged_size == 24 + 4 + 4 + 8
    assert task.eval_config().camera == task.camera and task.eval_config().episode_seconds == 20.0
    assert float(task.quad.build().thrust_to_weight) == pytest.approx(2.5)


def test_the_bound_is_that_of_the_clipped_quadrotor():
    task = task_config("race/figure-8")
    assert isinstance(task, RacingConfig)
    bound = lap_bound(task.track, task.quad, task.drone_radius)
    hard = point_mass_bound(task.track, task.quad)
    assert bound is not None and hard is not None
    assert 3.5 < bound < 3.57567  # solved at a tolerance of 0.55 m, judged at 0.60 m
    assert hard < bound
    assert bound > 1.3 * (lap_bound(Figure8Config(), QuadConfig(), 0.15) or 0.0)


def test_rows_show_their_states(seen):
    """After a step as after a restart: what ``AutoReset`` shows is the picture of the state it goes on with."""
    state, timestep = seen
    env = SEEN.build()
    assert timestep.obs.shape == (STEPS, *env.spec.obs_shape) and timestep.obs.dtype == env.spec.obs_dtype
    assert 1 <= np.sum(timestep.is_first[1:]) < STEPS - 1
    pictures = jax.jit(jax.vmap(lambda s: env.picture(s)))(state.inner)
    assert np.mean(np.asarray(pictures) != np.asarray(timestep.obs)) < 1e-3
    assert np.asarray(timestep.obs).std() > 20.0


def test_an_episode_keeps_its_light_and_begins_with_a_still_view(seen):
    state, timestep = seen
    light, first = np.asarray(state.inner.camera.look.light), np.asarray(timestep.is_first)
    changes = np.flatnonzero(np.diff(light)) + 1
    np.testing.assert_array_equal(changes, np.flatnonzero(first)[1:])
    past, now = np.moveaxis(np.asarray(state.inner.camera.poses.pos_w), 1, 0)
    np.testing.assert_array_equal(past[first], now[first])
    later = np.flatnonzero(~first)
    np.testing.assert_array_equal(past[later], now[later - 1])
    assert len(set(np.asarray(state.inner.camera.grain).tolist())) == STEPS


def test_a_camera_changes_nothing_but_the_observation(seen):
    state, timestep = seen
    blind_state, blind = stream(AutoReset(BLIND.build()), 0)
    assert blind.obs.shape == (STEPS, 24)
    without = eqx.tree_at(lambda s: s.camera, state.inner, None)
    rows = eqx.tree_at(lambda t: t.obs, timestep, blind.obs)
    for a, b in zip(
        jax.tree.leaves((without, rows)),
        jax.tree.leaves((blind_state.inner, blind)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # fused otherwise, so rounded otherwise
    assert all(leaf.dtype != jnp.uint8 for leaf in jax.tree.leaves(BLIND.build()))


def test_body_rates_and_the_last_action_come_beside_the_image(seen):
    with_imu = AutoReset(replace(SEEN, camera=replace(COARSE, imu=True)).build())
    assert with_imu.spec.vector_size == 7 and with_imu.spec.obs_shape == SEEN.build().spec.obs_shape
    state, timestep = stream(with_imu, 0)
    assert isinstance(timestep.obs, MixedObs)
    np.testing.assert_array_equal(timestep.obs.image, seen[1].obs)  # the same picture as without
    rates, last = state.inner.quad.omega_b, state.inner.action
    np.testing.assert_allclose(timestep.obs.vector, np.concatenate([rates / 10.0, last], axis=-1), rtol=1e-6)


def test_the_camera_of_the_examples_is_one_override():
    file = Path(__file__).parents[4] / "examples" / "cameras" / "deployed.json"
    task = override(figure_8_by_camera(), [f"camera=file:{file}"])
    eye = task.camera
    assert eye is not None and eye.imu and eye.latency_steps == 2 and eye.is_randomised
    assert task.build().spec.vector_size == 7 and task.eval_config().camera == eye


def test_the_privileged_vector_is_the_state_behind_the_image(seen):
    state, timestep = seen
    env = SEEN.build()

    def layout_b(s):
        return observe_b(
            env.track, View(quad=s.quad, target=s.target, action=s.action, clearance=jnp.array(0.6))
        )

    expected = jax.vmap(layout_b)(state.inner)
    np.testing.assert_allclose(timestep.privileged[:, :24], expected, atol=1e-5)
    np.testing.assert_array_equal(np.argmax(timestep.privileged[:, 32:], -1), state.inner.target)


def test_pictures_of_states_are_alike_in_both_layouts(seen):
    state, timestep = seen
    in_body = replace(SEEN, privileged_layout="C").build()
    again = jax.jit(jax.vmap(lambda s: in_body.privileged_of(s)))(state.inner)
    assert again.shape[1] == timestep.privileged.shape[1] + 3 == in_body.spec.privileged_size
    left = np.asarray(SEEN.build().pictures_of(timestep.privileged), int)
    right = np.asarray(in_body.pictures_of(again), int)
    assert (
        np.mean(np.abs(left - right) > 1) < 1e-3
    )  # of 255: rounding moves an edge across a ray here and there


def test_states_are_fixed_points():
    env = AutoReset(SEEN.build())
    state, first = jax.eval_shape(env.reset, jr.key(0))
    again = jax.eval_shape(env.step, state, jnp.zeros(4), jr.key(0))
    shapes = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(t)] for t in ((state, first), again)]
    assert shapes[0] == shapes[1]


class Film(AbstractCameraEnv[Array]):
    """A count to look at, through a loop that can be found in a compiled program."""

    @property
    def spec(self):
        return EnvSpec(
            (1, 1, 3),
            np.dtype(np.uint8),
            privileged_size=1,
            action=Box((1,)),
            ctrl_dt=1.0,
            has_smoothing=True,
        )

    def reset(self, key):
        return self._show(jnp.zeros((), jnp.int32))

    def restart(self, state, key):
        return self._show(jnp.zeros((), jnp.int32))

    def step(self, state, action, key):
        return self._show(state + 1)

    def picture(self, state):
        grey = jax.lax.fori_loop(0, 100 + state, lambda i, grey: (grey * 7 + i) % 251, state)
        return jnp.broadcast_to(grey.astype(jnp.uint8), (1, 1, 3))

    def pictures_of(self, privileged):
        return jax.vmap(lambda row: self.picture(row[0].astype(jnp.int32)))(privileged)

    def episode_metrics(self, state):
        return {}

    def _show(self, state):
        zero = jnp.zeros(())
        is_last = state >= 3
        return state, TimeStep(
            self.picture(state), zero[None], Reward(zero, zero), state == 0, is_last, is_last
        )


@pytest.mark.parametrize("limits", [0, 1, 2])
def test_a_row_has_one_picture_and_it_is_the_right_one(limits):
    """Those of both branches are dead code once the row has its own, whatever stands between camera and stream."""
    env = Film()
    for _ in range(limits):
        env = TimeLimit(env, steps=10)
    env = AutoReset(env)
    state, timestep = env.reset(jr.key(0))
    step = jax.jit(env.step).lower(state, jnp.zeros(1), jr.key(0)).compile()
    loops = [line for line in step.as_text().splitlines() if " while(" in line and "threefry" not in line]
    assert len(loops) == 1
    for expected in (1, 2, 3, 0, 1):
        state, timestep = step(state, jnp.zeros(1), jr.key(0))
        assert unwrapped(env, state)[1] == expected
        assert np.all(timestep.obs == Film().picture(jnp.asarray(expected)))


class Negative(AbstractEnv):
    """Shows the negative of what another environment shows, and is therefore no ``AbstractWrapper``."""

    env: AbstractEnv

    @property
    def spec(self):
        return self.env.spec

    def reset(self, key):
        return self._turned(*self.env.reset(key))

    def restart(self, state, key):
        return self._turned(*self.env.restart(state, key))

    def step(self, state, action, key):
        return self._turned(*self.env.step(state, action, key))

    def episode_metrics(self, state):
        return {}

    def _turned(self, state, timestep):
        return state, replace(timestep, obs=255 - timestep.obs)


def test_who_changes_pictures_keeps_his_own():
    env = AutoReset(Negative(Film()))
    state, _ = jax.jit(env.reset)(jr.key(0))
    _, timestep = jax.jit(env.step)(state, jnp.zeros(1), jr.key(0))
    assert np.all(timestep.obs == 255 - Film().picture(jnp.asarray(1)))
