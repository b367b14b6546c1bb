"""Dynamics of the privileged state itself, and an estimator of it from observations.

    g_t = core'(e_1 ... e_t, a_1 ... a_{t-1}),  s~_t = head([g_t, e_t])   the filter; its target is s_t
    h_t = core(s_{t-1}, a_{t-1}),  p(s_t | h_t)                           the dynamics; in acting, of s~_{t-1}

A prior over codes of single frames must predict the estimation error of the next frame, which is as large as all that
a single frame leaves unknown.  Imagination then is a random walk of these errors, and its gradients are useless
(docs/lab-notes.md, 10).  Here the dynamics are far more accurate than the estimates s~, and the uncertainty lies in
the start of imagination: it starts at the estimates, which are all that an acting agent has.  There is no loop over
time but the cores' own.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.nn.core import AbstractCore
from s5wm.nn.mlp import MLP, Linear, RMSNorm
from s5wm.nn.s5 import S5Config
from s5wm.types import Scalar
from s5wm.worldmodel.decoupled import DecoupledRSSM
from s5wm.worldmodel.dynamics import AbstractDynamics, Belief, Posterior
from s5wm.worldmodel.latent import AbstractLatentSpace, IdentityLatent, IdentityLatentConfig
from s5wm.worldmodel.sequence import CoreConfig, squash_action

Memory = TypeVar("Memory")


@dataclass(frozen=True, kw_only=True)
class PrivilegedStateConfig:
    """z is the privileged state: exact where the dynamics are trained, an estimate everywhere else."""

    states: IdentityLatentConfig = field(
        default_factory=IdentityLatentConfig
    )  # how z is blurred, and how it may change
    filter: CoreConfig = field(default_factory=S5Config)  # core of the filter

    def build(self, inputs: int) -> IdentityLatent:
        """The latent space of a privileged state of ``inputs`` numbers."""
        return self.states.build(inputs)


class StateEstimator(eqx.Module, Generic[Memory]):
    """``x_t, g_t = core(x_{t-1}, SiLU(norm(W [e_t, a_{t-1}])))`` and ``s~_t = head([g_t, e_t])`` of tokens ``e_t``."""

    inputs: Linear
    norm: RMSNorm
    core: AbstractCore[Memory]
    head: MLP

    def step(
        self,
        memory: Memory,
        token: Float[Array, " E"],
        prev_action: Float[Array, " A"],
        is_first: Bool[Array, ""],
    ) -> tuple[Memory, Float[Array, " X"]]:
        """One observation: the memory after it and the estimate."""
        memory, deter = self.core.step(memory, self._encode(token, prev_action, is_first), is_first)
        return memory, self.head(jnp.concatenate([deter, token]))

    def scan(
        self,
        memory: Memory,
        tokens: Float[Array, "T E"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
    ) -> tuple[Memory, Float[Array, "T X"]]:
        """All steps at once; memories at every one of them."""
        memories, deter = self.core.scan(memory, self._encode(tokens, prev_actions, is_first), is_first)
        return memories, self.head(jnp.concatenate([deter, tokens], axis=-1))

    def _encode(self, token: Array, prev_action: Array, is_first: Array) -> Array:
        action = jnp.where(is_first[..., None], 0.0, squash_action(prev_action))
        return jax.nn.silu(self.norm(self.inputs(jnp.concatenate([token, action], axis=-1))))


class PrivilegedStateMemory(eqx.Module, Generic[Memory]):
    """Memories of the filter and of the dynamics' core."""

    filter: Memory
    core: Memory


class PrivilegedStateRSSM(AbstractDynamics[PrivilegedStateMemory[Memory]], Generic[Memory]):
    """``DecoupledRSSM`` over states, behind a filter."""

    space: AbstractLatentSpace[Any, Any]
    filter: StateEstimator[Memory]
    states: DecoupledRSSM[Memory]  # their dynamics

    def initial(self) -> Belief[PrivilegedStateMemory[Memory]]:
        """Belief before an episode."""
        return with_estimator(self.filter.core.initial(), self.states.initial())

    def step(
        self,
        belief: Belief[PrivilegedStateMemory[Memory]],
        token: Float[Array, " E"],
        prev_action: Float[Array, " A"],
        is_first: Bool[Array, ""],
        *,
        noise: Float[Array, " J"] | None,
    ) -> Belief[PrivilegedStateMemory[Memory]]:
        """Filter one observation, then step the dynamics with the estimate."""
        memory, estimate = self.filter.step(belief.memory.filter, token, prev_action, is_first)
        inner = self.states.step(inner_of(belief), estimate, prev_action, is_first, noise=noise)
        return with_estimator(memory, inner)

    def predict_with_choice(
        self,
        belief: Belief[PrivilegedStateMemory[Memory]],
        action: Float[Array, " A"],
        *,
        noise: Float[Array, " J"] | None,
    ) -> tuple[Belief[PrivilegedStateMemory[Memory]], Scalar]:
        """One step through the prior; the filter's memory does not change, since nothing is observed."""
        inner, choice = self.states.predict_with_choice(inner_of(belief), action, noise=noise)
        return with_estimator(belief.memory.filter, inner), choice

    def observe(
        self,
        belief: Belief[PrivilegedStateMemory[Memory]],
        tokens: Float[Array, "T E"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[PrivilegedStateMemory[Memory]]:
        """Training pass: two scans over time."""
        memories, estimates = self.filter.scan(belief.memory.filter, tokens, prev_actions, is_first)
        out = self.states.observe(inner_of(belief), estimates, prev_actions, is_first, noise=noise)
        return Posterior(with_estimator(memories, out.belief), out.posterior, out.prior)

    def observe_states(
        self,
        belief: Belief[PrivilegedStateMemory[Memory]],
        previous: Float[Array, " X"],
        states: Float[Array, "T X"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """Training pass of the dynamics on observed states; ``previous`` is the one before the first.

        The memory is that of acting, which estimates have driven: imagination begins with such a one, too.
        """
        known = inner_of(belief)
        known = replace(known, latent=replace(known.latent, stoch=previous))
        return self.states.observe(known, states, prev_actions, is_first, noise=noise)


def with_estimator(memory: Memory, inner: Belief[Memory]) -> Belief[PrivilegedStateMemory[Memory]]:
    """The belief of the dynamics, with the memory of the estimator."""
    return Belief(PrivilegedStateMemory(memory, inner.memory), inner.latent)


def inner_of(belief: Belief[PrivilegedStateMemory[Memory]]) -> Belief[Memory]:
    """The belief of the dynamics alone."""
    return Belief(belief.memory.core, belief.latent)
