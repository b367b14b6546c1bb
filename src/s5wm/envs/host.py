"""Environments that live outside the compiled program: the host steps them, and the device learns from their data.

They reset as ``AutoReset`` does: the last observation of an episode has a time step of its own, and the step after it
ignores its action and starts the next episode.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped
from numpy.typing import NDArray

from s5wm.envs.base import AbstractEnv
from s5wm.errors import ConfigError
from s5wm.types import EnvSpec, Key, MixedObs, Reward, TimeStep, first_step

Values: TypeAlias = NDArray[Any]


CUT = "cut: the environment failed"
"""Ending of an episode, for people."""


@dataclass(frozen=True, kw_only=True)
class HostTimeStep:
    """One time step of ``N`` environments, on the host."""

    obs: Values | MixedObs  # [N, ...] as the spec has them
    privileged: Values | None = None  # [N, X]
    reward: Values  # [N], of the arrival here
    is_first: Values  # [N]
    is_last: Values  # [N]
    is_terminal: Values  # [N]
    cut: Values  # [N], whether its environment failed, so that the step before was the last of its episode
    metrics: Mapping[str, Values]  # [N], of episodes that end here; NaN: the episode lacks this metric


Shown: TypeAlias = tuple[Any, ...]
"""Arrays of a time step that agents see, on the host; programs take them unchanged."""


def shown_by(latest: HostTimeStep) -> Shown:
    """Arrays of a time step in one tuple, so that a program moves them to the device at once."""
    return (
        latest.obs,
        latest.privileged,
        np.asarray(latest.reward, np.float32),
        *(np.asarray(flag, bool) for flag in (latest.is_first, latest.is_last, latest.is_terminal)),
    )


def timestep_from(shown: Shown) -> TimeStep:
    """The ``TimeStep`` of such arrays, inside or outside of a program."""
    obs, privileged, reward, is_first, is_last, is_terminal = jax.tree.map(jnp.asarray, shown)
    return TimeStep(
        obs=obs,
        privileged=privileged,
        reward=Reward(reward),
        is_first=is_first,
        is_last=is_last,
        is_terminal=is_terminal,
    )


def timestep_of(latest: HostTimeStep) -> TimeStep:
    """The ``TimeStep`` of a step on the host."""
    return timestep_from(shown_by(latest))


def _ignore(notice: str) -> None:
    del notice


class AbstractHostEnvs(ABC):
    """``N`` running environments."""

    tell: Callable[[str], None] = staticmethod(_ignore)
    """Called at once with every notice: which environment failed, and why."""

    @abstractmethod
    def reset(self, seed: int) -> HostTimeStep:
        """Start new episodes; environment ``i`` is seeded by ``seed + i``."""

    @abstractmethod
    def step(self, action: Values) -> HostTimeStep:
        """Step each environment by actions ``[N, ...]`` in the environment's own form."""

    def render(self) -> Any:
        """A picture of the first environment; None where there is none."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close all environments."""


class HostEnv(AbstractEnv[None]):
    """Placeholder for such an environment where a pure one is expected: it has a spec, and cannot step."""

    described: EnvSpec
    open: Callable[[int], AbstractHostEnvs] = eqx.field(static=True)  # that number of environments
    encode: Callable[[Any, int | None], Any] = eqx.field(static=True)  # a user's observation, or N of them
    give: Callable[[Values], Any] = eqx.field(
        static=True
    )  # decoded actions [N, ...] in the environment's own form
    overlap: bool = eqx.field(static=True, default=False)  # whether it is stepped while the device learns

    @property
    def spec(self) -> EnvSpec:
        """That of the environment."""
        return self.described

    def reset(self, key: Key) -> tuple[None, TimeStep]:
        """A time step of zeros, which the first one of the environment replaces."""
        del key
        size = self.spec.privileged_size
        return None, first_step(self.spec.zero_obs(), jnp.zeros(size) if size else None)

    def step(self, state: None, action: Shaped[Array, "..."], key: Key) -> NoReturn:
        """Raises ``ConfigError``."""
        raise ConfigError(
            "this environment lives outside the compiled program and is stepped on the host: s5wm bench loop takes "
            "environments in JAX only; s5wm bench host times this one"
        )
