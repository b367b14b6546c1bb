"""An environment of your own in Gymnasium's form: it is stepped in Python, and the agent learns from its rows.

A lamp has to be set to one of five levels within a few steps, by turning a knob up or down or leaving it.

    s5wm check-env own_gymnasium_env:Lamp
    s5wm train own_gymnasium_env:Lamp --minutes 5 --run runs/lamp
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

LEVELS = 5


class Lamp(gym.Env[np.ndarray, np.int64]):
    """Shows the level and the level wanted; pays 1 for every step at the level wanted."""

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array"],
        "render_fps": 5,
        "obs_names": ["level", "wanted"],  # of the numbers, for tables and plots
    }
    observation_space = gym.spaces.Box(0.0, LEVELS - 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)  # down, nothing, up

    def __init__(self, steps: int = 12, render_mode: str | None = None) -> None:
        """``--env-arg steps=20`` is given here."""
        self.steps, self.render_mode = steps, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """A new episode: the first observation, and an info."""
        super().reset(seed=seed)
        self.level, self.wanted = (int(x) for x in self.np_random.integers(LEVELS, size=2))
        self.elapsed = 0
        return self._look(), {}

    def step(self, action: np.int64):
        """One step: observation, reward, terminated, truncated, info."""
        self.level = int(np.clip(self.level + int(action) - 1, 0, LEVELS - 1))
        self.elapsed += 1
        is_right = self.level == self.wanted
        is_over = self.elapsed >= self.steps
        # `is_success` at the end of an episode is what success rates are made of; leave it out where there is none.
        info = {"is_success": is_right} if is_over else {}
        return self._look(), float(is_right), False, is_over, info

    def render(self) -> np.ndarray:
        """A picture, for videos."""
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:, :32] = 255 * self.level // (LEVELS - 1)
        picture[:, 32:] = 255 * self.wanted // (LEVELS - 1)
        return picture

    def _look(self) -> np.ndarray:
        return np.array([self.level, self.wanted], np.float32)
