"""Videos of environments that the host steps."""

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.adapters.gymnasium import host_env
from s5wm.evaluation.filming import film


class Counter(gym.Env):
    """Its picture has the count in red; pays 1, and ends after ``length`` steps."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    length, breaks_at = 3, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.is_bad = 0, seed == 7
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.is_bad and self.t == self.breaks_at:
            raise RuntimeError("the simulator broke")
        return np.zeros(2, np.float32), 1.0, self.t == self.length, False, {}

    def render(self):
        return np.full((4, 6, 3), [10 * self.t, 0, 0], np.uint8)


class Still(AbstractPolicy):
    def initial(self):
        return jnp.zeros(())

    def __call__(self, carry, obs, is_first, *, key):
        return carry, jnp.zeros(2), None


def shots_of(max_steps: int) -> tuple[list[int], list[str]]:
    shots = film(host_env(Counter), Still(), episodes=2, max_steps=max_steps, seed=7)
    return [int(picture[0, 0, 0]) // 10 for picture, _ in shots], [words for _, words in shots]


def test_every_state_has_its_picture_with_the_return_so_far() -> None:
    shown, words = shots_of(10)
    assert shown == [0, 1, 2, 3] * 2
    assert words == [f"episode {episode}, return {t}.0" for episode in (1, 2) for t in range(4)]


def test_an_episode_that_reaches_its_limit_shows_its_last_state() -> None:
    assert shots_of(2) == (
        [0, 1, 2] * 2,
        [f"episode {episode}, return {t}.0" for episode in (1, 2) for t in range(3)],
    )


def test_an_episode_ends_where_its_environment_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counter, "breaks_at", 2)
    shown, words = shots_of(10)
    assert shown == [0, 1, 0, 1, 2, 3]
    assert words[:3] == [
        "episode 1, return 0.0",
        "episode 1, return 1.0, cut: the environment failed",
        "episode 2, return 0.0",
    ]
