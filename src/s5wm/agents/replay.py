"""Replay on the device: a ring of rows per environment, with the beliefs that were stored beside them."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from s5wm.types import Key, Transition
from s5wm.worldmodel.chunk import Chunk, Context
from s5wm.worldmodel.dynamics import Belief, Latent

Memory = TypeVar("Memory")

TOURNAMENT = 4  # candidates per surprising window


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Sizes of the replay and of what is drawn from it."""

    capacity: int = 8192  # rows per environment
    batch: int = 16
    length: int = 64
    surprising: int = 0  # of the batch, windows chosen for rows that the world model foresaw badly
    prefill: int = 1024  # rows in total before learning starts

    def __post_init__(self) -> None:
        for name in ("capacity", "batch", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"replay.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.surprising <= self.batch:
            raise ValueError(
                f"replay.surprising is {self.surprising}; it must lie between 0 and replay.batch {self.batch}"
            )
        if self.length + 1 > self.capacity:
            raise ValueError(
                f"replay.length {self.length} plus one row of context does not fit into replay.capacity "
                f"{self.capacity} rows per environment; shorten the length or enlarge the capacity"
            )


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
    surprise: Float[Array, "N capacity"]  # of the world model when it last saw the row
    head: Int[Array, ""]  # next row to be written
    filled: Int[Array, ""]

    @classmethod
    def init(cls, example: Transition[Entry[Memory]], num_envs: int, capacity: int) -> "Replay[Memory]":
        """Zeros shaped like ``example``, a single row."""
        rows = jax.tree.map(lambda x: jnp.zeros((num_envs, capacity, *x.shape), x.dtype), example)
        zero = jnp.zeros((), jnp.int32)
        return cls(rows, jnp.zeros((num_envs, capacity)), zero, zero)

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
        # Unseen rows take part as if they surprised as much as any known one, or they would never be drawn for it.
        unseen = jnp.full((self.surprise.shape[0], length), self.surprise.max())
        surprise = jax.lax.dynamic_update_slice_in_dim(self.surprise, unseen, self.head, axis=1)
        head = (self.head + length) % self.capacity
        return Replay(rows, surprise, head, jnp.minimum(self.filled + length, self.capacity))

    def draw(self, key: Key, *, batch: int, length: int, surprising: int = 0) -> Windows:
        """Where ``batch`` windows of ``length`` rows lie; none crosses the write head.

        All are uniform but the ``surprising`` last ones: of ``TOURNAMENT`` times as many uniform candidates, those
        whose most surprising row surprised most.  Gate passes and crashes are one row in hundreds; without this,
        the model sees thousands of uneventful windows for each.
        """
        count = batch + (TOURNAMENT - 1) * surprising
        windows = self._uniform(key, count, length)
        index = self._index(windows, length)[:, 1:]  # the context row is not trained
        most = self.surprise[windows.env[:, None], index].max(axis=1)
        first = batch - surprising
        _, best = jax.lax.top_k(most[first:], surprising)
        chosen = jnp.concatenate([jnp.arange(first), first + best])
        return Windows(windows.env[chosen], windows.start[chosen])

    def _uniform(self, key: Key, count: int, length: int) -> Windows:
        k_env, k_start = jr.split(key)
        env = jr.randint(k_env, (count,), 0, self.rows.action.shape[0])
        offset = jr.randint(k_start, (count,), 0, jnp.maximum(self.filled - length + 1, 1))
        return Windows(env, (self.head - self.filled + offset) % self.capacity)

    def read(self, windows: Windows, *, length: int) -> Transition[Entry[Memory]]:
        """The rows of windows, ``[B, length, ...]``."""
        index = self._index(windows, length)
        return jax.tree.map(lambda ring: ring[windows.env[:, None], index], self.rows)

    def mark(self, windows: Windows, surprise: Float[Array, "B T"]) -> "Replay[Memory]":
        """Remember the surprise of the trained rows, those after the first, of windows."""
        index = self._index(windows, surprise.shape[1] + 1)[:, 1:]
        marked = self.surprise.at[windows.env[:, None], index].set(surprise)
        return eqx.tree_at(lambda replay: replay.surprise, self, marked)

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


def to_chunk(rows: Transition[Entry[Any]]) -> Chunk[Any]:
    """Split sampled rows ``[B, T+1]`` into context (row 0) and training rows (the rest)."""
    entry: Entry[Any] = jax.tree.map(lambda x: x[:, 0], rows.extras)
    # The core never reads h of the context, only its memory and z.
    latent = Latent(jnp.zeros((*entry.stoch.shape[:-1], 0)), entry.stoch)
    before = jax.tree.map(lambda x: x[:, 0], (rows.timestep.privileged, rows.action))
    context = Context(Belief(entry.memory, latent), *before)
    timestep = jax.tree.map(lambda x: x[:, 1:], rows.timestep)
    return Chunk(context, timestep, rows.action[:, 1:])


def fresh_entries(rows: Transition[Entry[Any]], beliefs: Belief[Any]) -> Entry[Any]:
    """Beliefs of the trained rows behind the old one of the context row."""
    fresh = Entry(beliefs.memory, beliefs.latent.stoch)
    return jax.tree.map(lambda old, new: jnp.concatenate([old[:, :1], new], axis=1), rows.extras, fresh)
