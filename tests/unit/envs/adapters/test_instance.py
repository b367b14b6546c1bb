"""One living Gymnasium environment."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from s5wm.envs.adapters.instance import Instance
from s5wm.errors import ConfigError


class Drawn(gym.Env[np.ndarray, np.int64]):
    """Draws itself with a package, if that is there."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def render(self) -> Any:
        raise self.failure


@pytest.mark.parametrize("kind", [gym.error.DependencyNotInstalled, ModuleNotFoundError])
def test_a_package_that_rendering_lacks_is_named_without_a_traceback(kind: type[Exception]) -> None:
    instance = Instance(lambda: Drawn(kind("pygame is not installed, run pip install pygame")), {}, ())
    with pytest.raises(ConfigError, match="cannot draw itself: pygame is not installed"):
        instance.render()


def test_other_errors_of_rendering_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        Instance(lambda: Drawn(ZeroDivisionError()), {}, ()).render()
