"""Replay on the device: a ring of rows per environment, with the beliefs that were stored beside them."""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from s5wm.types import Key, Transition

Memory = TypeVar("Memory")


class Entry(eqx.Module, Generic[Memory]):
    """What a stored row needs for a chunk to start after it: core memory and latent sample."""

    memory: Memory
    stoch: Float[Array, "*b Z"]


class Windows(eqx.Module):
    """Where sampled windows lie: environment and first row of each."""

    env: Int[Array, " B"]
    start: Int[Array, " B"]  # ring index, may wrap within the window


class Replay(eqx.Module, Generic[Memory]):
    """``[N, capacity, ...]`` rows; all environments share the write head."""

    rows: Transition[Entry[Memory]]
    head: Int[Array, ""]  # next row to be written
    filled: Int[Array, ""]

    @classmethod
    def init(cls, example: Transition[Entry[Memory]], num_envs: int, capacity: int) -> "Replay[Memory]":
        """Zeros shaped like ``example``, a single row."""
        rows = jax.tree.map(lambda x: jnp.zeros((num_envs, capacity, *x.shape), x.dtype), example)
        zero = jnp.zeros((), jnp.int32)
        return cls(rows, zero, zero)

    @property
    def capacity(self) -> int:
        """Rows per environment."""
        return self.rows.action.shape[1]

    def add(self, rollout: Transition[Entry[Memory]]) -> "Replay[Memory]":
        """Append ``[N, M, ...]``; ``M`` must divide the capacity, so that no append wraps."""
        length = rollout.action.shape[1]
        if self.capacity % length:
            raise ValueError(
                f"a rollout of {length} steps does not divide the replay's {self.capacity} rows per "
                "environment; choose a capacity that is a multiple of the rollout length"
            )
        rows = jax.tree.map(
            lambda ring, new: jax.lax.dynamic_update_slice_in_dim(ring, new, self.head, axis=1),
            self.rows,
            rollout,
        )
        head = (self.head + length) % self.capacity
        return Replay(rows, head, jnp.minimum(self.filled + length, self.capacity))

    def sample(self, key: Key, *, batch: int, length: int) -> tuple[Windows, Transition[Entry[Memory]]]:
        """Uniform windows of ``length`` rows; none crosses the write head."""
        k_env, k_start = jr.split(key)
        env = jr.randint(k_env, (batch,), 0, self.rows.action.shape[0])
        oldest = self.head - self.filled
        offset = jr.randint(k_start, (batch,), 0, jnp.maximum(self.filled - length + 1, 1))
        windows = Windows(env, (oldest + offset) % self.capacity)
        index = self._index(windows, length)
        return windows, jax.tree.map(lambda ring: ring[windows.env[:, None], index], self.rows)

    def write_back(self, windows: Windows, entries: Entry[Memory]) -> "Replay[Memory]":
        """Replace the stored beliefs of windows by fresher ones ``[B, length, ...]``."""
        length = entries.stoch.shape[1]
        index = self._index(windows, length)
        extras = jax.tree.map(
            lambda ring, new: ring.at[windows.env[:, None], index].set(new), self.rows.extras, entries
        )
        return eqx.tree_at(lambda replay: replay.rows.extras, self, extras)

    def _index(self, windows: Windows, length: int) -> Int[Array, "B length"]:
        return (windows.start[:, None] + jnp.arange(length)[None]) % self.capacity

    def nbytes(self) -> int:
        """Memory of the rows."""
        leaves: list[Any] = jax.tree.leaves(self.rows)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
