"""Replay buffer on the device: a ring of time steps per environment, each a pytree that the agent defines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int

from s5wm.types import Key

Data = TypeVar("Data")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Sizes of the replay and of what is drawn from it."""

    capacity: int = 8192  # time steps per environment
    batch: int = 16
    length: int = 64
    prefill: int = 1024  # time steps in total before learning starts

    def __post_init__(self) -> None:
        for name in ("capacity", "batch", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"replay.{name} is {getattr(self, name)}; it must be at least 1")
        if self.length + 1 > self.capacity:
            raise ValueError(
                f"replay.length {self.length} plus one time step of context does not fit into replay.capacity "
                f"{self.capacity} time steps per environment; shorten the length or enlarge the capacity"
            )


class Windows(eqx.Module):
    """Places of sampled windows: environment and first time step of each."""

    env: Int[Array, " B"]
    start: Int[Array, " B"]  # ring index, may wrap within the window


class Replay(eqx.Module, Generic[Data]):
    """Ring buffer: a pytree ``[N, capacity, ...]``; all environments share the write head."""

    rows: Data
    head: Int[Array, ""]  # next index to be written
    filled: Int[Array, ""]

    @classmethod
    def init(cls, example: Data, num_envs: int, capacity: int) -> "Replay[Data]":
        """Zeros shaped like ``example``, a single time step."""
        rows = jax.tree.map(lambda x: jnp.zeros((num_envs, capacity, *x.shape), x.dtype), example)
        zero = jnp.zeros((), jnp.int32)
        return cls(rows, zero, zero)

    @property
    def num_envs(self) -> int:
        """Environments ``N``."""
        return _size(self.rows, 0)

    @property
    def capacity(self) -> int:
        """Time steps per environment."""
        return _size(self.rows, 1)

    def add(self, rollout: Data) -> "Replay[Data]":
        """Append ``[N, M, ...]``; ``M`` must divide the capacity, so that no append wraps."""
        length = _size(rollout, 1)
        if self.capacity % length:
            raise ValueError(
                f"a rollout of {length} steps does not divide the replay's {self.capacity} time steps per "
                "environment; choose a capacity that is a multiple of the rollout length"
            )
        rows = jax.tree.map(
            lambda ring, new: jax.lax.dynamic_update_slice_in_dim(ring, new, self.head, axis=1),
            self.rows,
            rollout,
        )
        head = (self.head + length) % self.capacity
        return Replay(rows, head, jnp.minimum(self.filled + length, self.capacity))

    def draw(self, key: Key, *, batch: int, length: int) -> Windows:
        """Sample ``batch`` windows of ``length`` time steps uniformly; none crosses the write head."""
        k_env, k_start = jr.split(key)
        env = jr.randint(k_env, (batch,), 0, self.num_envs)
        offset = jr.randint(k_start, (batch,), 0, jnp.maximum(self.filled - length + 1, 1))
        return Windows(env, (self.head - self.filled + offset) % self.capacity)

    def read(self, windows: Windows, *, length: int) -> Data:
        """Contents of windows, ``[B, length, ...]``."""
        index = self._index(windows, length)
        return jax.tree.map(lambda ring: ring[windows.env[:, None], index], self.rows)

    def write_back(self, windows: Windows, values: Any, *, at: Callable[[Data], Any]) -> "Replay[Data]":
        """Replace the part ``at`` of the windows by ``values``, a pytree like it of ``[B, length, ...]``."""
        index = self._index(windows, _size(values, 1))
        part = jax.tree.map(
            lambda ring, new: ring.at[windows.env[:, None], index].set(new), at(self.rows), values
        )
        return eqx.tree_at(lambda replay: at(replay.rows), self, part)

    def _index(self, windows: Windows, length: int) -> Int[Array, "B length"]:
        return (windows.start[:, None] + jnp.arange(length)[None]) % self.capacity

    def nbytes(self) -> int:
        """Size in bytes."""
        leaves: list[Any] = jax.tree.leaves(self.rows)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _size(rows: Any, axis: int) -> int:
    return jax.tree.leaves(rows)[0].shape[axis]
