"""What a spec refuses."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box
from s5wm.agents.base import AbstractPolicy
from s5wm.envs.probes import ActionReward
from s5wm.errors import ConfigError
from s5wm.training.state import init_actor
from s5wm.types import EnvSpec


class Silent(AbstractPolicy):
    def initial(self):
        return jnp.zeros(())

    def __call__(self, carry, obs, is_first, *, key):
        return carry, jnp.zeros(1), None


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_pixels_are_bytes(dtype: type) -> None:
    with pytest.raises(ConfigError, match="pixels are uint8 from 0 to 255"):
        EnvSpec((64, 64, 3), np.dtype(dtype), Box(), ctrl_dt=0.1)
    assert EnvSpec((64, 64, 3), np.dtype(np.uint8), Box(), ctrl_dt=0.1).has_images


def test_what_an_environment_shows_is_what_its_spec_says() -> None:
    class Other(ActionReward):
        @property
        def spec(self) -> EnvSpec:
            return replace(super().spec, obs_shape=(7,))

    with pytest.raises(ConfigError, match=r"shows float32\[1\], and its spec says float32\[7\]"):
        init_actor(Other(), Silent(), 2, key=jr.key(0))
