"""The environment contract: pure functions of a typed state."""

from abc import abstractmethod
from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from s5wm.types import EnvSpec as EnvSpec
from s5wm.types import EpisodeMetrics, Key, TimeStep

State = TypeVar("State")


class AbstractEnv(eqx.Module, Generic[State]):
    """An environment for ONE copy; ``vmap`` makes many.

    ``step`` is never called on a finished episode: ``AutoReset`` (envs/wrappers.py) calls ``restart``
    instead.  Actions may lie outside ``[-1, 1]``; environments clip.  All array constants (tracks,
    physical parameters) are array leaves, everything else is static.
    """

    @property
    @abstractmethod
    def spec(self) -> EnvSpec:
        """Shapes and control period."""

    @abstractmethod
    def reset(self, key: Key) -> tuple[State, TimeStep]:
        """First episode of a fresh copy; the time step has ``is_first`` and zero reward."""

    @abstractmethod
    def restart(self, state: State, key: Key) -> tuple[State, TimeStep]:
        """Next episode of a living copy: keeps what outlives episodes (reset buffers, curriculum)."""

    @abstractmethod
    def step(self, state: State, action: Float[Array, " A"], key: Key) -> tuple[State, TimeStep]:
        """One control period; rewards belong to the arrival at the returned observation."""

    @abstractmethod
    def episode_metrics(self, state: State) -> EpisodeMetrics:
        """Scalars that describe the episode so far (gates, laps, ...); logged when it ends.

        One that only some episodes have is an ``OptionalMetric``.
        """


class AbstractCameraEnv(AbstractEnv[State]):
    """An environment that may observe by pictures, each a function of the state that it shows."""

    @abstractmethod
    def picture(self, state: State) -> UInt8[Array, "H W 3"] | None:
        """The observation of a state, as in its time step; None if observations are no pictures."""


def bounded(action: Float[Array, "*b A"]) -> Float[Array, "*b A"]:
    """The action that an environment is given: inside ``[-1, 1]``, and zero where the policy gave no number."""
    return jnp.where(jnp.isnan(action), 0.0, jnp.clip(action, -1.0, 1.0))
