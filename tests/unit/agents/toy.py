"""A toy that is seen: an image tells in its first frame what the last one asks for."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv, EnvSpec
from s5wm.types import Reward, TimeStep

SIDE = 16


class ShownState(eqx.Module):
    """What was drawn (-0.6 or 0.6) and the steps taken."""

    draw: Float[Array, ""]
    elapsed: Int[Array, ""]


class ShownOnce(AbstractEnv[ShownState]):
    """Frame 0 is bright or dark, frame 1 grey; the action chosen at frame 1 pays ``-(a - draw)^2``.

    The privileged state is ``[draw, elapsed]`` times ``scale``; a policy must not notice.
    """

    scale: Float[Array, ""]

    @property
    def spec(self):
        return EnvSpec(
            (SIDE, SIDE, 3),
            np.dtype(np.uint8),
            privileged_size=2,
            action=Box((1,)),
            ctrl_dt=1.0,
            has_smoothing=True,
        )

    def reset(self, key):
        state = ShownState(0.6 * jr.rademacher(key, (), jnp.float32), jnp.zeros((), jnp.int32))
        return state, self._show(state, jnp.zeros(()))

    def restart(self, state, key):
        return self.reset(key)

    def step(self, state, action, key):
        paid = -jnp.square(jnp.clip(action[0], -1.0, 1.0) - state.draw)
        state = ShownState(state.draw, state.elapsed + 1)
        return state, self._show(state, jnp.where(state.elapsed == 2, paid, 0.0))

    def episode_metrics(self, state):
        return {}

    def _show(self, state, reward):
        level = jnp.where(state.elapsed == 0, 128 + 100 * state.draw, 128.0)
        return TimeStep(
            obs=jnp.full((SIDE, SIDE, 3), jnp.round(level)).astype(jnp.uint8),
            privileged=self.scale * jnp.stack([state.draw, state.elapsed.astype(jnp.float32)]),
            reward=Reward(reward, jnp.zeros(())),
            is_first=state.elapsed == 0,
            is_last=state.elapsed == 2,
            is_terminal=state.elapsed == 2,
        )
