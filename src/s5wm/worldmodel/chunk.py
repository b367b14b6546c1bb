"""Input and output of a training pass of the world model: chunks of experience, losses and beliefs."""

from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.types import Metrics, TimeStep, existing
from s5wm.worldmodel.dynamics import Belief, Posterior

Memory = TypeVar("Memory")


class Context(eqx.Module, Generic[Memory]):
    """Context of a training chunk: the stored belief, privileged state and action of the time step before it."""

    belief: Belief[Memory]
    privileged: Float[Array, "*b X"] | None
    action: Float[Array, "*b A"]

    @property
    def state(self) -> Float[Array, "*b X"]:
        """The privileged vector; raises if there is none."""
        return existing(self.privileged)


class Chunk(eqx.Module, Generic[Memory]):
    """``T`` consecutive time steps and their context, without batch axes (``vmap``)."""

    context: Context[Memory]
    timestep: TimeStep  # [*b, T, ...]
    action: Float[Array, "*b T A"]

    @property
    def prev_actions(self) -> Float[Array, "T A"]:
        """``a_{t-1}`` of every time step of one chunk."""
        return jnp.concatenate([self.context.action[None], self.action[:-1]])


class LossOutput(eqx.Module, Generic[Memory]):
    """Auxiliary outputs of a training pass over a chunk."""

    posterior: Posterior[Memory]  # as acting has it
    metrics: Metrics
