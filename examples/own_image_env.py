"""Any Gymnasium environment, seen through its own pictures: a wrapper shows them instead of its state.

    s5wm check-env own_image_env:make
    s5wm train own_image_env:make --env-arg id=CartPole-v1 --minutes 30 --run runs/pictures

Pictures of any size are resized to 64 x 64.  One picture tells no speed: the world model's memory has to.
"""

import gymnasium as gym
import numpy as np
from own_gymnasium_env import Lamp


class Pictures(gym.ObservationWrapper):
    """What ``render`` gives, as the observation."""

    def __init__(self, env: gym.Env) -> None:
        """The wrapped environment renders to arrays."""
        super().__init__(env)
        env.reset(seed=0)
        shape = np.asarray(env.render()).shape
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The present picture."""
        return np.asarray(self.env.render(), np.uint8)


def make(id: str | None = None) -> gym.Env:
    """The lamp of the other example, or the environment with this id."""
    env = Lamp(render_mode="rgb_array") if id is None else gym.make(id, render_mode="rgb_array")
    return Pictures(env)
