"""Shared parts of dynamics models: input layer, sequence core and prior p(z_t | h_t).

    u_t = SiLU(norm(W [z_{t-1}, a_{t-1}])),   h_t, x_t = core(x_{t-1}, u_t),   p(z_t | h_t)

Where an episode begins, z_{t-1}, a_{t-1} and x_{t-1} are all zeroed.
"""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.nn.core import AbstractCore
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.mlp import MLP, Linear, RMSNorm
from s5wm.nn.s5 import S5Config
from s5wm.worldmodel.latent import AbstractLatentSpace

Memory = TypeVar("Memory")

CoreConfig = S5Config | BlockGRUConfig


def squash_action(action: Float[Array, "*b A"]) -> Float[Array, "*b A"]:
    """Each component within [-1, 1], as environments take it.

    DreamerV3 divides by ``max(1, |a|)`` held constant: the same value, with a gradient beyond the bounds, where the
    environment has none.  A policy that learns by gradients through the model would feel no cost of a spread there.
    """
    return jnp.clip(action, -1.0, 1.0)


class SequenceModel(eqx.Module, Generic[Memory]):
    """The prior half of a world model."""

    inputs: Linear
    norm: RMSNorm
    core: AbstractCore[Memory]
    prior_head: MLP
    mixture_logits_head: MLP | None
    space: AbstractLatentSpace[Any, Any]
    prior_sees_inputs: bool = eqx.field(static=True)

    def _previous(self, stoch: Array, action: Array, is_first: Array) -> Array:
        previous = jnp.concatenate([stoch, squash_action(action)], axis=-1)
        return jnp.where(is_first[..., None], 0.0, previous)

    def _encode(self, previous: Array) -> Array:
        return jax.nn.silu(self.norm(self.inputs(previous)))

    def step(
        self,
        memory: Memory,
        stoch: Float[Array, " Z"],
        action: Float[Array, " A"],
        is_first: Bool[Array, ""],
    ) -> tuple[Memory, Float[Array, " D"], Float[Array, " I"]]:
        """One step from ``(x_{t-1}, z_{t-1}, a_{t-1})``: memory, h_t and what the prior reads besides h_t."""
        previous = self._previous(stoch, action, is_first)
        memory, deter = self.core.step(memory, self._encode(previous), is_first)
        return memory, deter, previous

    def scan(
        self,
        memory: Memory,
        stochs: Float[Array, "T Z"],
        actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
    ) -> tuple[Memory, Float[Array, "T D"], Float[Array, "T I"]]:
        """All steps at once; ``stochs[t]`` and ``actions[t]`` are z_{t-1} and a_{t-1}."""
        previous = self._previous(stochs, actions, is_first)
        memories, deter = self.core.scan(memory, self._encode(previous), is_first)
        return memories, deter, previous

    def prior(self, deter: Float[Array, "*b D"], previous: Float[Array, "*b I"]) -> Any:
        """``p(z_t | h_t)``; with ``prior_sees_inputs`` the head also reads z_{t-1}, a_{t-1} directly."""
        inputs = jnp.concatenate([deter, previous], axis=-1) if self.prior_sees_inputs else deter
        params = self.prior_head(inputs)
        if self.mixture_logits_head is not None:
            params = jnp.concatenate([self.mixture_logits_head(inputs), params], axis=-1)
        return self.space.prior(params, previous[..., : self.space.size])
