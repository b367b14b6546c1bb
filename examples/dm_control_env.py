"""Tasks of the DeepMind Control suite from vectors, with the action repeat of the published curves.

    pip install 's5wm[gym]' dm_control shimmy imageio 'mujoco<4'
    s5wm train dm_control_env:make --env-arg task=cartpole-swingup --size 1m --env-steps 50000 --run runs/swingup
    s5wm train dm_control_env:make --env-arg task=reacher-easy --size 1m --env-steps 50000 --run runs/reacher
    s5wm train dm_control_env:make --env-arg task=walker-walk --size 1m --env-steps 50000 --run runs/walker

Every action is held for two steps of the simulator, as DreamerV3, MR.Q and DR.Q do: 50,000 environment steps are the
100,000 frames of their figures.  An episode is 1000 frames, and its return at most 1000.
"""

from typing import Any

import gymnasium as gym
import numpy as np

try:
    import shimmy  # noqa: F401 - registers dm_control's tasks with Gymnasium
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install dm_control shimmy imageio 'mujoco<4'") from error


class ActionRepeat(gym.Wrapper):
    """Takes every action several times and adds the rewards up; stops where the episode ends."""

    def __init__(self, env: gym.Env, repeat: int) -> None:
        """At least once."""
        super().__init__(env)
        if repeat < 1:
            raise ValueError(f"repeat is {repeat}; take every action at least once")
        self.repeat = repeat

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """So many steps of the environment."""
        total = 0.0
        for _ in range(self.repeat):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


def make(task: str = "cartpole-swingup", repeat: int = 2, render_mode: str | None = None) -> gym.Env:
    """A task by the names of the suite, domain-task."""
    return ActionRepeat(gym.make(f"dm_control/{task}-v0", render_mode=render_mode), repeat)
