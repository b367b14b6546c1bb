"""Gymnasium's own checkers, and one copy against many."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

gym = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from s5wm.envs.gymnasium import GymEnv, GymVectorEnv, make_single, register  # noqa: E402
from s5wm.envs.hover import HoverConfig  # noqa: E402
from s5wm.envs.probes import ActionReward  # noqa: E402
from s5wm.envs.toys import ChainConfig, DoubleIntegratorConfig  # noqa: E402

NAMES = ("s5wm/SplitS-v0", "s5wm/Figure8State-v0", "s5wm/Figure8-v0", "s5wm/Hover-v0")


@pytest.fixture(scope="module", autouse=True)
def registered():
    register()


def check(name, **kwargs):
    """Gymnasium's verdict; the only advice not taken is to bound the observations."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space m.*imum value is -?infinity.*")
        check_env(gym.make(name, **kwargs).unwrapped)


def test_a_truncated_toy_passes_gymnasiums_checker():
    check("s5wm/Hover-v0", config=DoubleIntegratorConfig(steps=5))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s5wm/SplitS-v0", "s5wm/Hover-v0"])
def test_registered_task_passes_gymnasiums_checker(name):
    check(name)


def test_register_twice_does_no_harm_and_names_both_entry_points():
    register()
    for name in NAMES:
        spec = gym.spec(name)
        assert spec.entry_point == "s5wm.gym_ids:make_single"
        assert spec.vector_entry_point == "s5wm.gym_ids:make_vector"


def test_make_vec_is_the_fast_one_and_takes_a_config():
    envs = gym.make_vec("s5wm/Hover-v0", num_envs=3, config=HoverConfig(seconds=1.0))
    assert isinstance(envs, GymVectorEnv) and envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    obs, _ = envs.reset(seed=0)
    assert obs in envs.observation_space and obs.shape == (3, 15)


@pytest.mark.parametrize(
    "config",
    [DoubleIntegratorConfig(steps=7), ChainConfig(places=5), ChainConfig(places=5, is_terminal=False)],
    ids=["truncated", "terminal chain", "truncated chain"],
)
def test_vector_is_single_copies_in_step(config):
    env = config.build()
    fast = GymVectorEnv(env, 3)
    slow = SyncVectorEnv([lambda: GymEnv(env)] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    np.testing.assert_array_equal(fast.reset(seed=7)[0], slow.reset(seed=7)[0])
    fast.action_space.seed(0)
    ends = 0
    for i in range(30):
        if i == 20:  # a reset without a seed goes on with the living copies
            np.testing.assert_array_equal(fast.reset()[0], slow.reset()[0])
        actions = fast.action_space.sample()
        ours, theirs = fast.step(actions), slow.step(actions)
        assert ours[0] in fast.observation_space
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, atol=1e-6)
        ends += np.sum(ours[2] | ours[3])
    assert ends > 3


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
    assert info == {}
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
    image = type(spec)((8, 8, 3), np.dtype(np.uint8), spec.privileged_size, spec.action_size, spec.ctrl_dt)

    class Camera(ActionReward):
        @property
        def spec(self):
            return image

    space = GymEnv(Camera()).observation_space
    assert space.dtype == np.uint8 and space.shape == (8, 8, 3) and space.high.max() == 255
    assert np.asarray(jnp.zeros(image.obs_shape, image.obs_dtype)) in space
