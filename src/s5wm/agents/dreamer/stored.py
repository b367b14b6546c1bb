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
    """Core memory and latent sample of a stored transition; a chunk can start after it."""

    memory: Memory
    stoch: Float[Array, "*b Z"]


Transitions: TypeAlias = Transition[StoredLatent[Any]]
"""Transitions with their stored latents: rollouts ``[N, T]``, replay ``[N, capacity]``, samples ``[B, T]``."""


class SkippedBatch(eqx.Module):
    """The latest skipped gradient step: its sampled windows and its number (-1: none was skipped)."""

    windows: Windows
    update: Int[Array, ""]

    @classmethod
    def none(cls, batch: int) -> "SkippedBatch":
        """Nothing skipped yet."""
        zeros = jnp.zeros(batch, jnp.int32)
        return cls(Windows(zeros, zeros), jnp.full((), -1, jnp.int32))


def stored_latents(stored: Transitions) -> StoredLatent[Any]:
    """The part of stored transitions that is written back."""
    return stored.extras


def to_chunk(stored: Transitions) -> Chunk[Any]:
    """Split sampled transitions ``[B, T+1]`` into context (the first) and a training chunk (the rest)."""
    before: Transitions = jax.tree.map(lambda x: x[:, 0], stored)
    # The core never reads h of the context, only its memory and z.
    latent = Latent(jnp.zeros((*before.extras.stoch.shape[:-1], 0)), before.extras.stoch)
    context = Context(Belief(before.extras.memory, latent), before.timestep.privileged, before.action)
    timestep = jax.tree.map(lambda x: x[:, 1:], stored.timestep)
    return Chunk(context, timestep, stored.action[:, 1:])


def fresh_latents(stored: Transitions, beliefs: Belief[Any]) -> StoredLatent[Any]:
    """New latents of the training chunk, after the old one of the context."""
    fresh = StoredLatent(beliefs.memory, beliefs.latent.stoch)
    return jax.tree.map(lambda old, new: jnp.concatenate([old[:, :1], new], axis=1), stored.extras, fresh)
