"""What actions an environment takes, and the vector of numbers that agents choose in their place.

Agents know one kind of action: a vector ``[A]``.  For ``Box`` it lies in ``[-1, 1]`` and means a place between the
bounds; for ``Discrete`` and ``MultiDiscrete`` it holds one-hots, one after the other.  Collection, evaluation and
``TrainedAgent.act`` call ``decode`` on it, once, and environments are given what comes out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

Bounds: TypeAlias = float | tuple[float, ...]

GivenBounds: TypeAlias = Bounds | Sequence[float] | np.number[Any] | Shaped[Array | np.ndarray, "..."]
"""What becomes such bounds."""


def _as_bounds(given: Any, name: str, width: int) -> Bounds:
    """Numbers, lists and arrays as a number or a tuple, which can be hashed."""
    values = np.asarray(given, float)
    if values.ndim == 0:
        return float(values)
    if values.size not in (1, width):
        raise ValueError(
            f"{name} of Box has {values.size} numbers for an action of {width}: give one, or one for each"
        )
    return tuple(float(value) for value in values.ravel())


def _as_whole(given: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.ravel(given))


def _set(spec: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(spec, name, value)


@dataclass(frozen=True)
class Box:
    """Real numbers between bounds; one bound for all of them, or one for each in the order of ``ravel``.

    Lists and arrays become tuples.
    """

    shape: tuple[int, ...] = (1,)
    low: GivenBounds = field(default=-1.0, kw_only=True)
    high: GivenBounds = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        _set(self, shape=_as_whole(self.shape))
        _set(self, **{name: _as_bounds(getattr(self, name), name, self.width) for name in ("low", "high")})
        low, high = (np.broadcast_to(np.asarray(bound, float), (self.width,)) for bound in self.bounds)
        with np.errstate(over="ignore"):  # that their difference is finite in float32 is what is asked
            span = high.astype(np.float32) - low.astype(np.float32)
        if not (
            np.isfinite(low).all()
            and np.isfinite(high).all()
            and np.isfinite(span).all()
            and (span > 0).all()
        ):
            raise ValueError(
                f"Box has bounds {self.low} and {self.high}; agents choose between finite bounds, low below high: give "
                "such bounds, in Gymnasium with a wrapper that rescales or clips actions"
            )

    @property
    def bounds(self) -> tuple[Bounds, Bounds]:
        """Low and high."""
        return cast(Bounds, self.low), cast(Bounds, self.high)

    @property
    def width(self) -> int:
        """Numbers ``A`` that an agent chooses."""
        return math.prod(self.shape)

    def decode(self, vector: Float[Array, "*b A"]) -> Float[Array, "..."]:
        """``low + (high - low) (a + 1) / 2`` of the clipped vector, in ``shape``; the middle where it is NaN."""
        inside = jnp.where(jnp.isnan(vector), 0.0, jnp.clip(vector, -1.0, 1.0))
        if self.bounds != (-1.0, 1.0):
            low, high = (
                jnp.broadcast_to(jnp.asarray(bound, jnp.float32), inside.shape) for bound in self.bounds
            )
            scaled = low + 0.5 * (high - low) * (inside + 1.0)
            inside = jnp.clip(scaled, low, high)  # rounding may leave the bounds, which environments check
        return inside.reshape(*vector.shape[:-1], *self.shape)

    def encode(self, action: Any) -> Float[np.ndarray, "*b A"]:
        """The inverse of ``decode`` on the host; ``action`` has any axes in front of ``shape``."""
        given = np.asarray(action, np.float32)
        given = given.reshape(*given.shape[: given.ndim - len(self.shape)], self.width)
        low, high = (np.asarray(bound, np.float32) for bound in self.bounds)
        return 2.0 * (given - low) / (high - low) - 1.0

    def blank(self) -> Float[Array, "..."]:
        """A zero action in the environment's form."""
        return jnp.zeros(self.shape)


@dataclass(frozen=True)
class Discrete:
    """One of ``n`` choices, counted from 0."""

    n: int

    def __post_init__(self) -> None:
        _set(self, n=int(self.n))
        if self.n < 2:
            raise ValueError(f"Discrete has {self.n} choices; there is something to choose from 2 on")

    @property
    def groups(self) -> tuple[int, ...]:
        """Choices of each variable."""
        return (self.n,)

    @property
    def width(self) -> int:
        """Numbers ``A`` of the one-hot."""
        return self.n

    def decode(self, vector: Float[Array, "*b A"]) -> Int[Array, "*b"]:
        """The choice with the largest number."""
        return jnp.argmax(vector, axis=-1).astype(jnp.int32)

    def encode(self, action: Any) -> Float[np.ndarray, "*b A"]:
        """The inverse of ``decode`` on the host."""
        return np.eye(self.n, dtype=np.float32)[np.asarray(action, np.int64)]

    def blank(self) -> Int[Array, ""]:
        """The first choice in the environment's form."""
        return jnp.zeros((), jnp.int32)


@dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once: variable ``i`` is one of ``groups[i]``."""

    groups: tuple[int, ...]

    def __post_init__(self) -> None:
        _set(self, groups=_as_whole(self.groups))
        if not self.groups or min(self.groups) < 2:
            raise ValueError(f"MultiDiscrete has {self.groups} choices; give at least 2 for each variable")

    @property
    def width(self) -> int:
        """Numbers ``A`` of all one-hots."""
        return sum(self.groups)

    def decode(self, vector: Float[Array, "*b A"]) -> Int[Array, "*b G"]:
        """For each variable the choice with the largest number."""
        chosen = [jnp.argmax(part, axis=-1) for part in split_groups(vector, self.groups)]
        return jnp.stack(chosen, axis=-1).astype(jnp.int32)

    def encode(self, action: Any) -> Float[np.ndarray, "*b A"]:
        """The inverse of ``decode`` on the host."""
        given = np.asarray(action, np.int64)
        parts = [np.eye(n, dtype=np.float32)[given[..., i]] for i, n in enumerate(self.groups)]
        return np.concatenate(parts, axis=-1)

    def blank(self) -> Int[Array, " G"]:
        """The first choices in the environment's form."""
        return jnp.zeros(len(self.groups), jnp.int32)


ActionSpec: TypeAlias = Box | Discrete | MultiDiscrete


def split_groups(vector: Float[Array, "*b A"], groups: tuple[int, ...]) -> list[Float[Array, "*b n"]]:
    """The parts of a vector that belong to each variable."""
    return jnp.split(vector, list(np.cumsum(groups)[:-1]), axis=-1)
