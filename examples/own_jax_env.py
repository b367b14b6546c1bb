"""An environment of your own in JAX: it is stepped inside the compiled program, as fast as the agent learns.

A ball rolls on a beam, and the action tilts the beam; reward is 1 at the middle and falls towards the ends.

    s5wm check-env own_jax_env:make
    s5wm train own_jax_env:make --minutes 5 --run runs/beam
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.actions import Box
from s5wm.envs.base import AbstractEnv
from s5wm.envs.wrappers import TimeLimit
from s5wm.types import EnvSpec, first_step, later_step


class BallState(eqx.Module):
    """Place (m from the middle) and speed (m/s) of the ball."""

    place: jnp.ndarray
    speed: jnp.ndarray


class Beam(AbstractEnv[BallState]):
    """ONE environment, no batch axis: pure functions of a typed state.  Arrays are fields; all else is static."""

    pull: jnp.ndarray  # m/s^2 at full tilt
    dt: float = eqx.field(static=True)

    @property
    def spec(self):
        """What an agent has to know: a vector of two numbers, one action between -1 and 1, and the control period."""
        return EnvSpec((2,), np.dtype(np.float32), Box((1,), low=-1.0, high=1.0), ctrl_dt=self.dt)

    def reset(self, key):
        """The first time step of an episode, and the state that goes with it."""
        state = BallState(jr.uniform(key, minval=-0.8, maxval=0.8), jnp.zeros(()))
        return state, first_step(self._look(state))

    def step(self, state, action, key):
        """One control period.  ``is_terminal``: the ball has fallen, and nothing more will be earned."""
        speed = state.speed + self.dt * self.pull * action[0]
        state = BallState(state.place + self.dt * speed, speed)
        has_fallen = jnp.abs(state.place) > 1.0
        reward = 1.0 - jnp.abs(state.place)
        return state, later_step(self._look(state), reward, is_last=has_fallen, is_terminal=has_fallen)

    def episode_metrics(self, state):
        """Figures of your own, logged as means over the episodes that end."""
        return {"offset": jnp.abs(state.place)}

    def render(self, state):
        """A picture for ``s5wm eval runs/beam --video beam.gif``; leave it out where you want none."""
        picture = np.full((48, 160, 3), 255, np.uint8)
        picture[30:34, 16:144] = (90, 100, 110)  # the beam
        column = 80 + round(60 * float(np.clip(state.place, -1.1, 1.1)))
        picture[20:30, column - 5 : column + 5] = (210, 90, 30)  # the ball
        return picture

    def _look(self, state):
        return jnp.stack([state.place, state.speed])


def make(steps: int = 100):
    """What ``s5wm train own_jax_env:make`` calls; ``--env-arg steps=200`` is given to it."""
    return TimeLimit(Beam(pull=jnp.asarray(4.0), dt=0.05), steps)
