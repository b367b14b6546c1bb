"""Gymnasium's own checkers, and one environment against a batch."""

import warnings
from dataclasses import replace
from unittest.mock import patch

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends import backend_registry

gym = pytest.importorskip("gymnasium")

from gymnasium.envs import registration  # noqa: E402
from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from s5wm.envs.base import AbstractEnv  # noqa: E402
from s5wm.envs.gymnasium import GymEnv, GymVectorEnv, make_single  # noqa: E402
from s5wm.envs.hover import HoverConfig  # noqa: E402
from s5wm.envs.probes import ActionReward  # noqa: E402
from s5wm.envs.racing.camera import CameraConfig  # noqa: E402
from s5wm.envs.racing.task import RacingConfig  # noqa: E402
from s5wm.envs.racing.tasks import figure_8_by_camera  # noqa: E402
from s5wm.envs.racing.track import Figure8Config  # noqa: E402
from s5wm.envs.racing.variation import VariationConfig  # noqa: E402
from s5wm.envs.racing.varied import VariedRace  # noqa: E402
from s5wm.envs.toys import ChainConfig, DoubleIntegratorConfig  # noqa: E402
from s5wm.experiments import gym_ids  # noqa: E402
from s5wm.types import MixedObs  # noqa: E402

NAMES = ("s5wm/SplitS-v0", "s5wm/Figure8State-v0", "s5wm/Figure8-v0", "s5wm/Hover-v0")


def check(name, **kwargs):
    """Gymnasium's verdict; the only advice not taken is to bound the observations."""
    anything = [mpl.get_backend().lower()]  # taken for a screen
    with warnings.catch_warnings(), patch.object(backend_registry, "list_builtin", lambda kind: anything):
        warnings.filterwarnings("ignore", message=".*Box observation space m.*imum value is -?infinity.*")
        check_env(gym.make(name, **kwargs).unwrapped)


def test_a_truncated_toy_passes_gymnasiums_checker():
    check("s5wm/Hover-v0", config=DoubleIntegratorConfig(steps=5))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s5wm/SplitS-v0", "s5wm/Hover-v0"])
def test_registered_task_passes_gymnasiums_checker(name):
    check(name)


def test_register_twice_does_no_harm_and_names_both_entry_points():
    gym_ids.register(registration)
    assert set(gym_ids.GYM_IDS) == set(NAMES)
    for name in NAMES:
        spec = gym.spec(name)
        assert spec.entry_point == "s5wm.experiments.gym_ids:make_single"
        assert spec.vector_entry_point == "s5wm.experiments.gym_ids:make_vector"


def test_make_vec_is_the_fast_one_and_takes_a_config():
    envs = gym.make_vec("s5wm/Hover-v0", num_envs=3, config=HoverConfig(seconds=1.0))
    assert isinstance(envs, GymVectorEnv) and envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    obs, _ = envs.reset(seed=0)
    assert obs in envs.observation_space and obs.shape == (3, 15)


def assert_same(ours, theirs):
    """Rows or infos, to the type."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert_same(ours[name], theirs[name])
    elif isinstance(ours, tuple) or isinstance(ours, np.ndarray) and ours.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, np.ndarray):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    else:
        assert ours == theirs


class Pictured(AbstractEnv):
    """A chain that shows its place as an image too."""

    env: AbstractEnv

    @property
    def spec(self):
        spec = self.env.spec
        size = spec.obs_shape[0]
        return replace(spec, obs_shape=(size, 2, 1), obs_dtype=np.dtype(np.uint8), vector_size=size)

    def _pictured(self, state, step):
        image = jnp.broadcast_to(255.0 * step.obs[:, None, None], self.spec.obs_shape).astype(jnp.uint8)
        return state, replace(step, obs=MixedObs(image, step.obs))

    def reset(self, key):
        return self._pictured(*self.env.reset(key))

    def step(self, state, action, key):
        return self._pictured(*self.env.step(state, action, key))


class PicturedConfig:
    """Describes it."""

    def build(self):
        return Pictured(ChainConfig(places=5).build())


CONFIGS = {
    "image and vector": PicturedConfig(),
    "truncated": DoubleIntegratorConfig(steps=7),
    "terminal chain": ChainConfig(places=5),
    "truncated chain": ChainConfig(places=5, is_terminal=False),
    "drone": HoverConfig(seconds=0.1),
}


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", list(CONFIGS))
def test_vector_is_gymnasiums_over_single_copies(name, mode):
    """Observations, rewards, flags and infos, through every kind of reset; only ``None`` seeds are drawn otherwise."""
    env = CONFIGS[name].build()
    fast = GymVectorEnv(env, 3, autoreset_mode=mode)
    slow = SyncVectorEnv([lambda: GymEnv(env)] * 3, autoreset_mode=mode)
    modes = ["rgb_array"] if name == "drone" else []
    assert fast.metadata == slow.metadata | {"render_modes": modes}

    def reset(seed=None, mask=None):
        options = [None if mask is None else {"reset_mask": np.array(mask)} for _ in "12"]
        assert_same(fast.reset(seed=seed, options=options[0]), slow.reset(seed=seed, options=options[1]))

    fast.action_space.seed(0)
    reset(seed=7)
    resets = {
        9: {},
        12: {"seed": [3, None, 2**40]},
        15: {"mask": [False, True, False]},
        18: {"seed": [5, 6, None], "mask": [True, False, True]},
        21: {"seed": 11, "mask": [False, False, True]},
    }
    ends = 0
    for step in range(30):
        if step in resets:
            reset(**resets[step])
        actions = fast.action_space.sample()
        ours, theirs = fast.step(actions), slow.step(actions)
        assert ours[0] in fast.observation_space
        assert_same(ours, theirs)
        ended = ours[2] | ours[3]
        ends += ended.sum()
        if mode == AutoresetMode.DISABLED and ended.any():
            with pytest.raises(gym.error.ResetNeeded, match="reset_mask"):
                fast.step(actions)
            reset(mask=ended)
    assert ends > 3


def test_an_image_and_a_vector_are_a_dictionary():
    env = GymEnv(PicturedConfig())
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space and obs["image"].dtype == np.uint8 and obs["image"].shape == (5, 2, 1)
    np.testing.assert_array_equal(obs["vector"], obs["image"][:, 0, 0] / 255)
    check("s5wm/Hover-v0", config=PicturedConfig())
    envs = GymVectorEnv(PicturedConfig().build(), 2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    ended = np.zeros(2, bool)
    while not ended.any():
        obs, _, terminated, truncated, info = envs.step(np.array([[-0.5], [1.0]], np.float32))
        ended = terminated | truncated
    assert obs["image"].shape == (2, 5, 2, 1) and obs in envs.observation_space
    assert info["final_obs"][0] is None and info["final_obs"][1]["vector"].argmax() == 4
    assert info["final_obs"][1] in envs.single_observation_space


def test_body_rates_beside_the_image_of_a_race_are_in_its_space():
    race = replace(figure_8_by_camera(), camera=CameraConfig(imu=True))
    space = GymEnv(race).observation_space
    assert space["image"].shape == (64, 64, 3) and space["image"].dtype == np.uint8
    assert space["vector"].shape == (7,)


def test_a_varied_race_is_made_as_it_is_trained_on():
    config = RacingConfig(track=Figure8Config(), variation=VariationConfig(wind=3.0))
    for made in (GymEnv(config)._env, gym.make_vec("s5wm/SplitS-v0", num_envs=2, config=config)._env):
        assert isinstance(made, VariedRace)
    assert not isinstance(GymEnv(config.eval_config())._env, VariedRace)
    assert made.track_geometry().gate_pos.shape == (8, 3) and made.room().shape == (1, 3)
    assert GymEnv(config, render_mode="rgb_array").metadata["render_modes"] == ["rgb_array", "human"]


def test_final_observation_of_the_same_step():
    envs = GymVectorEnv(ChainConfig(places=3).build(), 2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    obs, _, terminated, _, info = envs.step(np.array([[-0.5], [1.0]], np.float32))
    np.testing.assert_array_equal(terminated, [False, True])
    np.testing.assert_array_equal(obs.argmax(-1), [1, 0])
    assert info["final_obs"][0] is None and info["final_obs"][1].argmax() == 2
    np.testing.assert_array_equal(info["_final_obs"], [False, True])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": [1, 2]}, ValueError, "list of 2"),
        ({"seed": [1, -2, 3]}, gym.error.Error, "seed is -2"),
        ({"seed": -1}, gym.error.Error, "seed is -1"),
        ({"options": {"reset_mask": [True] * 3}}, TypeError, "it must be a NumPy array of bool"),
        ({"options": {"reset_mask": np.ones(3)}}, TypeError, "is float64"),
        ({"options": {"reset_mask": np.ones(2, bool)}}, ValueError, r"must be \(3,\)"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, ValueError, "at least one"),
        (
            {"options": {"reset_mask": np.array([True, False, True])}},
            gym.error.ResetNeeded,
            "reset all of them",
        ),
    ],
)
def test_resets_that_make_no_sense_are_named(arguments, error, message):
    envs = GymVectorEnv(ActionReward(), 3)
    with pytest.raises(error, match=message):
        envs.reset(**arguments)


def test_options_stay_the_callers():
    envs = GymVectorEnv(ActionReward(), 2)
    envs.reset(seed=0)
    options = {"reset_mask": np.array([True, False])}
    envs.reset(options=options)
    assert options["reset_mask"].tolist() == [True, False]


def test_large_seeds_are_seeds_of_their_own():
    envs = GymVectorEnv(DoubleIntegratorConfig().build(), 5)
    obs, _ = envs.reset(seed=[0, 2**32, 2**40, 2**64, 3 * 2**64])
    assert len({row.tobytes() for row in obs}) == 5
    again, _ = envs.reset(seed=[2**40, 0, 2**64, 2**32, 1])
    np.testing.assert_array_equal(again[[1, 3, 0, 2]], obs[[0, 1, 2, 3]])


@pytest.mark.parametrize("is_terminal", [True, False])
def test_final_observation_and_flags_of_a_chain(is_terminal):
    envs = GymVectorEnv(ChainConfig(places=3, is_terminal=is_terminal).build(), 2)
    envs.reset(seed=0)
    actions = np.array([[-0.5], [1.0]], np.float32)  # the first copy needs two steps, the second one
    obs, reward, terminated, truncated, info = envs.step(actions)
    np.testing.assert_array_equal(obs.argmax(-1), [1, 2])
    np.testing.assert_allclose(reward, [-0.5 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_array_equal(terminated, [False, is_terminal])
    np.testing.assert_array_equal(truncated, [False, not is_terminal])
    assert all(len(values) == 2 for values in info.values())
    obs, reward, terminated, truncated, _ = envs.step(actions)
    np.testing.assert_array_equal(obs.argmax(-1), [2, 0])
    assert reward[1] == 0 and not terminated[1] and not truncated[1]


def test_reward_is_nominal_plus_smoothing():
    env = GymEnv(ActionReward())
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(np.array([0.2], np.float32))
    assert reward == pytest.approx(1 - 0.3**2 - 0.2**2)
    assert terminated is True and truncated is False and isinstance(reward, float)


def test_seeds_repeat_and_episodes_differ():
    env = make_single(DoubleIntegratorConfig(steps=5))
    first, second = env.reset(seed=3)[0], env.reset()[0]
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    assert not np.allclose(make_single(DoubleIntegratorConfig(steps=5)).reset(seed=2**33 + 4)[0], first)


def test_a_batch_handed_out_is_the_callers_to_keep():
    envs = GymVectorEnv(DoubleIntegratorConfig().build(), 2)
    obs, _ = envs.reset(seed=0)
    kept = obs.copy()
    stepped = envs.step(np.ones((2, 1), np.float32))
    np.testing.assert_array_equal(obs, kept)
    for array in (obs, *stepped[:4]):
        array[:] = 0  # a read-only view of a device array would raise


def test_misuse_is_named():
    env = GymEnv(ActionReward())
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="num_envs is 0"):
        GymVectorEnv(ActionReward(), 0)


def test_images_are_bytes():
    spec = ActionReward().spec
    image = replace(spec, obs_shape=(8, 8, 3), obs_dtype=np.dtype(np.uint8))

    class Camera(ActionReward):
        @property
        def spec(self):
            return image

    space = GymEnv(Camera()).observation_space
    assert space.dtype == np.uint8 and space.shape == (8, 8, 3) and space.high.max() == 255
    assert np.asarray(jnp.zeros(image.obs_shape, image.obs_dtype)) in space
