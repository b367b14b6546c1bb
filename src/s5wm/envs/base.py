"""The environment contract: pure functions of a typed state."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from s5wm.types import EnvSpec as EnvSpec
from s5wm.types import EpisodeMetrics, Key, OptionalMetric, TimeStep

State = TypeVar("State")


class AbstractEnv(eqx.Module, Generic[State]):
    """An environment for ONE copy; ``vmap`` makes many.

    ``step`` is never called on a finished episode: ``AutoReset`` (envs/wrappers.py) calls ``restart``
    instead.  Actions may lie outside ``[-1, 1]``; environments clip.  All array constants (tracks,
    physical parameters) are array leaves, everything else is static.

    ``env.step`` and the like are plain bound methods, equal where the environment is the same object, so that any
    transformation takes them: ``jax.jit(env.step)``.  Its constants become part of the program.
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

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            # Equinox gives bound methods as trees of arrays, which cannot be hashed and so not be compiled.
            return object.__getattribute__(self, name)


class AbstractCameraEnv(AbstractEnv[State]):
    """An environment that may observe by pictures, each a function of the state that it shows."""

    @abstractmethod
    def picture(self, state: State) -> UInt8[Array, "H W 3"] | None:
        """The observation of a state, as in its time step; None if observations are no pictures."""


class DroneView(eqx.Module):
    """A drone at one state of its environment: what pictures and Gymnasium's ``info`` are made of."""

    pos_w: Float[Array, "*b 3"]  # m
    vel_w: Float[Array, "*b 3"]  # m/s
    quat: Float[Array, "*b 4"]  # body to world, w first
    target: Int[Array, "*b"]  # the gate to pass next, 0 where there are none
    ending: Int[Array, "*b"]  # index into ``endings``
    figures: dict[str, Shaped[Array, "..."] | OptionalMetric]  # [*b, ...], of the episode so far
    endings: tuple[str, ...] = eqx.field(static=True)  # the first one: it is still flying


class AbstractDroneEnv(AbstractEnv[State]):
    """An environment in which a drone flies."""

    @abstractmethod
    def drone(self, state: State) -> DroneView:
        """The drone at a state."""


class AbstractWrapper(AbstractEnv[State]):
    """An environment around another one, whose observations it passes on unchanged.

    What the other one can do beyond the contract (pictures) is found through it; a wrapper that changes observations
    is an ``AbstractEnv`` instead, so that nobody takes the picture of another.
    """

    env: eqx.AbstractVar[AbstractEnv[Any]]

    @abstractmethod
    def inner(self, state: State) -> Any:
        """State of the wrapped environment."""


def innermost(env: AbstractEnv[Any]) -> AbstractEnv[Any]:
    """The environment inside all its wrappers."""
    return innermost(env.env) if isinstance(env, AbstractWrapper) else env


def unwrapped(env: AbstractEnv[Any], state: Any) -> tuple[AbstractEnv[Any], Any]:
    """The environment inside all its wrappers, and its state."""
    return unwrapped(env.env, env.inner(state)) if isinstance(env, AbstractWrapper) else (env, state)


def picture_of(env: AbstractEnv[Any], state: Any) -> UInt8[Array, "H W 3"] | None:
    """What a camera shows at a state, through any wrappers; None if observations are no pictures."""
    bare, inner = unwrapped(env, state)
    return bare.picture(inner) if isinstance(bare, AbstractCameraEnv) else None


def bounded(action: Float[Array, "*b A"]) -> Float[Array, "*b A"]:
    """The action that an environment is given: inside ``[-1, 1]``, and zero where the policy gave no number."""
    return jnp.where(jnp.isnan(action), 0.0, jnp.clip(action, -1.0, 1.0))


@runtime_checkable
class OwnTask(Protocol):
    """What the configuration of a task needs, unless the evaluation knows it by name."""

    def build(self) -> AbstractEnv[Any]:
        """The environment."""
        ...

    def evaluation(self) -> Any:
        """The configuration it is judged by, of the same class; itself, where that is no other."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps after which an episode has ended for sure."""
        ...

    def success(
        self, metrics: Mapping[str, Float[np.ndarray, " K"]], returns: Float[np.ndarray, " K"]
    ) -> Bool[np.ndarray, " K"]:
        """Which of ``K`` episodes solved the task, by its episode metrics (NaN: has none) and nominal returns."""
        ...
