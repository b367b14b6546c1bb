"""What both Gymnasium adapters share: spaces, seeds, titles."""

from typing import Any

import numpy as np
from gymnasium import spaces

from s5wm.actions import Discrete, MultiDiscrete
from s5wm.envs.base import EnvSpec


def observation_space(spec: EnvSpec) -> spaces.Box:
    """Of one environment."""
    if spec.obs_dtype == np.uint8:
        return spaces.Box(0, 255, spec.obs_shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, spec.obs_shape, np.float32)


def action_space(spec: EnvSpec) -> spaces.Space[Any]:
    """Of one environment."""
    action = spec.action
    if isinstance(action, Discrete):
        return spaces.Discrete(action.n)
    if isinstance(action, MultiDiscrete):
        return spaces.MultiDiscrete(list(action.groups))
    low, high = (
        np.broadcast_to(np.asarray(bound, np.float32), (action.width,)).reshape(action.shape)
        for bound in action.bounds
    )
    return spaces.Box(low, high, dtype=np.float32)


def drawn_seed(generator: np.random.Generator) -> int:
    """A seed where the user gives none."""
    return int(generator.integers(2**31))


def title_of(env: Any) -> str:
    """What stands above pictures of it."""
    return "s5wm" if env.spec is None else str(env.spec.id)
