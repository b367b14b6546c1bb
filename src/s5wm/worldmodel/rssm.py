"""DreamerV3's dynamics: the posterior reads memory and observation, so training is sequential in time.

h_t = core(z_{t-1}, a_{t-1}),  z_t ~ q(z_t | h_t, o_t),  t = 1 ... T one after the other;  p(z_t | h_t) for all t
"""

from abc import abstractmethod
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.nn.mlp import MLP
from s5wm.types import Scalar
from s5wm.worldmodel.dynamics import AbstractDynamics, Belief, Latent, Posterior
from s5wm.worldmodel.latent import AbstractLatentSpace
from s5wm.worldmodel.sequence import SequenceModel

Memory = TypeVar("Memory")


class AbstractRSSM(AbstractDynamics[Memory], Generic[Memory]):
    """Common part of both dynamics: all but the posterior's inputs and its pass over a sequence."""

    space: eqx.AbstractVar[AbstractLatentSpace[Any, Any]]
    sequence: eqx.AbstractVar[SequenceModel[Memory]]
    deter_size: eqx.AbstractVar[int]

    @abstractmethod
    def posterior_params(self, deter: Float[Array, " D"], token: Float[Array, " E"]) -> Float[Array, " Q"]:
        """Parameters of ``q(z_t | ...)``."""

    def initial(self) -> Belief[Memory]:
        """Zero latent, the core's initial memory."""
        latent = Latent(jnp.zeros(self.deter_size), jnp.zeros(self.space.size))
        return Belief(self.sequence.core.initial(), latent)

    def step(
        self,
        belief: Belief[Memory],
        token: Float[Array, " E"],
        prev_action: Float[Array, " A"],
        is_first: Bool[Array, ""],
        *,
        noise: Float[Array, " J"] | None,
    ) -> Belief[Memory]:
        """One recurrent step; needs no prior."""
        return self.filter(belief, token, prev_action, is_first, noise=noise)[0]

    def filter(
        self,
        belief: Belief[Memory],
        token: Float[Array, " E"],
        prev_action: Float[Array, " A"],
        is_first: Bool[Array, ""],
        *,
        noise: Float[Array, " J"] | None,
    ) -> tuple[Belief[Memory], Float[Array, " Q"], Float[Array, " I"]]:
        """``step``, the parameters of its posterior, and what the prior reads besides h_t."""
        memory, deter, previous = self.sequence.step(
            belief.memory, belief.latent.stoch, prev_action, is_first
        )
        params = self.posterior_params(deter, token)
        stoch = self.space.sample(self.space.posterior(params), noise)
        return Belief(memory, Latent(deter, stoch)), params, previous

    def predict_with_choice(
        self, belief: Belief[Memory], action: Float[Array, " A"], *, noise: Float[Array, " J"] | None
    ) -> tuple[Belief[Memory], Scalar]:
        """One recurrent step, z_t from the prior."""
        continues = jnp.zeros((), bool)
        memory, deter, previous = self.sequence.step(belief.memory, belief.latent.stoch, action, continues)
        prior = self.sequence.prior(deter, previous)
        latent = Latent(deter, self.space.sample(prior, noise))
        return Belief(memory, latent), self.space.choice_log_prob(prior, noise)


class RSSM(AbstractRSSM[Memory], Generic[Memory]):
    """Posterior ``q(z_t | h_t, o_t)`` with any sequence core."""

    space: AbstractLatentSpace[Any, Any]
    sequence: SequenceModel[Memory]
    posterior_head: MLP
    deter_size: int = eqx.field(static=True)
    unroll: int = eqx.field(static=True)  # steps per iteration of the loop over time

    def posterior_params(self, deter: Float[Array, " D"], token: Float[Array, " E"]) -> Float[Array, " Q"]:
        """From both."""
        return self.posterior_head(jnp.concatenate([deter, token]))

    def observe(
        self,
        belief: Belief[Memory],
        tokens: Float[Array, "T E"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """A loop over time of core and posterior; then the priors of all steps at once."""

        def advance(
            belief: Belief[Memory], inputs: tuple[Array, Array, Array, Array | None]
        ) -> tuple[Belief[Memory], tuple[Belief[Memory], Array, Array]]:
            *row, noise = inputs
            belief, params, previous = self.filter(belief, *row, noise=noise)
            return belief, (belief, params, previous)

        start = Belief(belief.memory, Latent(jnp.zeros(self.deter_size), belief.latent.stoch))
        _, (beliefs, params, previous) = jax.lax.scan(
            advance, start, (tokens, prev_actions, is_first, noise), unroll=self.unroll
        )
        prior = self.sequence.prior(beliefs.latent.deter, previous)
        return Posterior(beliefs, self.space.posterior(params), prior)
