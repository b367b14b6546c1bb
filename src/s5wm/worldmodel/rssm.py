"""DreamerV3's dynamics: the posterior sees the memory besides the observation, so training walks through time.

h_t = core(z_{t-1}, a_{t-1}),  z_t ~ q(z_t | h_t, o_t),  t = 1 ... T one after the other;  p(z_t | h_t) for all t
"""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.nn.mlp import MLP
from s5wm.worldmodel.dynamics import AbstractDynamics, Belief, Latent, Posterior
from s5wm.worldmodel.latent import AbstractLatentSpace
from s5wm.worldmodel.sequence import SequenceModel

Memory = TypeVar("Memory")


class AbstractRSSM(AbstractDynamics[Memory], Generic[Memory]):
    """Sequence model and prior; where the posterior comes from is left open."""

    space: eqx.AbstractVar[AbstractLatentSpace[Any, Any]]
    sequence: eqx.AbstractVar[SequenceModel[Memory]]
    deter_size: eqx.AbstractVar[int]

    def initial(self) -> Belief[Memory]:
        """Zero latent, the core's initial memory."""
        latent = Latent(jnp.zeros(self.deter_size), jnp.zeros(self.space.size))
        return Belief(self.sequence.core.initial(), latent)

    def predict(
        self, belief: Belief[Memory], action: Float[Array, " A"], *, noise: Float[Array, " J"] | None
    ) -> Belief[Memory]:
        """One recurrent step, z_t from the prior."""
        continues = jnp.zeros((), bool)
        memory, deter, previous = self.sequence.step(belief.memory, belief.latent.stoch, action, continues)
        stoch = self.space.sample(self.sequence.prior(deter, previous), noise)
        return Belief(memory, Latent(deter, stoch))


class RSSM(AbstractRSSM[Memory], Generic[Memory]):
    """``q(z_t | h_t, o_t)`` beside any sequence core."""

    space: AbstractLatentSpace[Any, Any]
    sequence: SequenceModel[Memory]
    posterior_head: MLP
    deter_size: int = eqx.field(static=True)
    unroll: int = eqx.field(static=True)  # steps per iteration of the loop over time

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
        return self._filter(belief, token, prev_action, is_first, noise)[0]

    def observe(
        self,
        belief: Belief[Memory],
        tokens: Float[Array, "T E"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """A loop over time around core and posterior; priors follow for all steps at once."""

        def advance(
            belief: Belief[Memory], inputs: tuple[Array, Array, Array, Array | None]
        ) -> tuple[Belief[Memory], tuple[Belief[Memory], Array, Array]]:
            belief, params, previous = self._filter(belief, *inputs)
            return belief, (belief, params, previous)

        start = Belief(belief.memory, Latent(jnp.zeros(self.deter_size), belief.latent.stoch))
        _, (beliefs, params, previous) = jax.lax.scan(
            advance, start, (tokens, prev_actions, is_first, noise), unroll=self.unroll
        )
        prior = self.sequence.prior(beliefs.latent.deter, previous)
        return Posterior(beliefs, self.space.posterior(params), prior)

    def _filter(
        self,
        belief: Belief[Memory],
        token: Float[Array, " E"],
        prev_action: Float[Array, " A"],
        is_first: Bool[Array, ""],
        noise: Float[Array, " J"] | None,
    ) -> tuple[Belief[Memory], Float[Array, " Q"], Float[Array, " I"]]:
        memory, deter, previous = self.sequence.step(
            belief.memory, belief.latent.stoch, prev_action, is_first
        )
        params = self.posterior_head(jnp.concatenate([deter, token]))
        stoch = self.space.sample(self.space.posterior(params), noise)
        return Belief(memory, Latent(deter, stoch)), params, previous
