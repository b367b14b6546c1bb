"""The environment contract: pure functions of a typed state."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

from s5wm.runs.flights import TrackGeometry
from s5wm.types import EnvSpec as EnvSpec
from s5wm.types import EpisodeMetrics, Key, OptionalMetric, TimeStep

State = TypeVar("State")

ROOM = 5.0
"""m around the origin that a picture shows, where the range of a drone is unknown."""


class AbstractEnv(eqx.Module, Generic[State]):
    """ONE environment, without a batch axis; ``vmap`` batches it.

    ``step`` is never called on a finished episode: ``AutoReset`` (envs/wrappers.py) calls ``restart``
    instead.  Actions come in the form that ``spec.action`` has: numbers within its bounds, or whole numbers.
    All array constants (tracks, physical parameters) are array leaves, everything else is static.

    ``env.step`` and the like are plain bound methods, equal where the environment is the same object, so that any
    transformation takes them: ``jax.jit(env.step)``.  Its constants become part of the program.
    """

    @property
    @abstractmethod
    def spec(self) -> EnvSpec:
        """Shapes and control period."""

    @abstractmethod
    def reset(self, key: Key) -> tuple[State, TimeStep]:
        """First episode; the time step has ``is_first`` and zero reward."""

    def restart(self, state: State, key: Key) -> tuple[State, TimeStep]:
        """Next episode: keeps what outlives episodes (reset buffers, curriculum).

        By default nothing does, and it is ``reset``.
        """
        del state
        return self.reset(key)

    @abstractmethod
    def step(self, state: State, action: Shaped[Array, "..."], key: Key) -> tuple[State, TimeStep]:
        """One control period; rewards belong to the arrival at the returned observation."""

    def episode_metrics(self, state: State) -> EpisodeMetrics:
        """Scalars that describe the episode so far (gates, laps, ...); logged when it ends.

        One that only some episodes have is an ``OptionalMetric``.  By default there are none: returns and lengths are
        logged in any case.  Names in ``s5wm.types.RESERVED_METRICS`` are those of s5wm's own numbers, and left out.
        """
        del state
        return {}

    def render(self, state: State) -> UInt8[np.ndarray, "H W 3"] | None:
        """A picture of a state for videos (``s5wm eval RUN --video``); never compiled, so any library may draw it.

        By default there is none.
        """
        del state
        return None

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            # Equinox gives bound methods as trees of arrays, which cannot be hashed and so not be compiled.
            return object.__getattribute__(self, name)


class AbstractCameraEnv(AbstractEnv[State]):
    """An environment whose observations may be pictures, each a function of the state."""

    @abstractmethod
    def picture(self, state: State) -> UInt8[Array, "H W 3"] | None:
        """The observation of a state, as in its time step; None if observations are no pictures."""

    @abstractmethod
    def pictures_of(self, privileged: Float[Array, "T Y"]) -> UInt8[Array, "T H W 3"]:
        """Render privileged vectors, for instance those that a world model predicts."""


class DroneView(eqx.Module):
    """A drone at one state of its environment, for pictures and Gymnasium's ``info``."""

    pos_w: Float[Array, "*b 3"]  # m
    vel_w: Float[Array, "*b 3"]  # m/s
    quat: Float[Array, "*b 4"]  # body to world, w first
    target: Int[Array, "*b"]  # the gate to pass next, 0 where there are none
    ending: Int[Array, "*b"]  # index into ``endings``
    metrics: dict[str, Shaped[Array, "..."] | OptionalMetric]  # [*b, ...], of the episode so far
    endings: tuple[str, ...] = eqx.field(static=True)  # the first one: it is still flying


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Task-specific part of the flight card of an exported policy."""

    layout: str = "other"  # of the observation
    vehicle: Any = None  # ``QuadParams``
    track: Mapping[str, Any] | None = None  # fields of ``TrackCard``, as numbers, text or arrays


class AbstractDroneEnv(AbstractEnv[State]):
    """An environment in which a drone flies."""

    @abstractmethod
    def drone(self, state: State) -> DroneView:
        """The drone at a state."""

    def track_geometry(self) -> TrackGeometry | None:
        """The gates, where there are any."""
        return None

    def room(self) -> Float[np.ndarray, "K 3"]:
        """Points [m] that a picture has to include."""
        return np.array([[-ROOM] * 3, [ROOM] * 3])

    def deployment(self) -> Deployment:
        """Deployment data for the flight card; empty by default."""
        return Deployment()


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
