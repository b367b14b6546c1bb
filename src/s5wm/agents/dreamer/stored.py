"""Latents that a world-model agent stores with each transition, and training chunks from stored transitions."""

from typing import Any, Generic, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from s5wm.agents.replay import Windows
from s5wm.types import Transition
from s5wm.worldmodel.chunk import Chunk, Context
from s5wm.worldmodel.dynamics import Belief, Latent

Memory = TypeVar("Memory")


class StoredLatent(eqx.Module, Generic[Memory]):
    """What a stored row needs for a chunk to start after it: core memory and latent sample."""

    memory: Memory
    stoch: Float[Array, "*b Z"]


Rows: TypeAlias = Transition[StoredLatent[Any]]
"""Transitions with their stored latents: rollouts ``[N, T]``, replay ``[N, capacity]``, samples ``[B, T]``."""


class SkippedBatch(eqx.Module):
    """The latest skipped gradient step: what it had drawn, and its number (-1: none was skipped)."""

    windows: Windows
    update: Int[Array, ""]

    @classmethod
    def none(cls, batch: int) -> "SkippedBatch":
        """Nothing skipped yet."""
        zeros = jnp.zeros(batch, jnp.int32)
        return cls(Windows(zeros, zeros), jnp.full((), -1, jnp.int32))


def stored_latents(rows: Rows) -> StoredLatent[Any]:
    """The part of rows that is written back."""
    return rows.extras


def to_chunk(rows: Rows) -> Chunk[Any]:
    """Split sampled rows ``[B, T+1]`` into context (row 0) and training rows (the rest)."""
    before: Rows = jax.tree.map(lambda x: x[:, 0], rows)
    # The core never reads h of the context, only its memory and z.
    latent = Latent(jnp.zeros((*before.extras.stoch.shape[:-1], 0)), before.extras.stoch)
    context = Context(Belief(before.extras.memory, latent), before.timestep.privileged, before.action)
    timestep = jax.tree.map(lambda x: x[:, 1:], rows.timestep)
    return Chunk(context, timestep, rows.action[:, 1:])


def fresh_latents(rows: Rows, beliefs: Belief[Any]) -> StoredLatent[Any]:
    """Latents of the trained rows, behind the old one of the context row."""
    fresh = StoredLatent(beliefs.memory, beliefs.latent.stoch)
    return jax.tree.map(lambda old, new: jnp.concatenate([old[:, :1], new], axis=1), rows.extras, fresh)
