"""S5WM's dynamics: the posterior sees the observation alone, so training is parallel over time.

    q(z_t | o_t) for all t at once -> sample -> shift by one -> core over the whole sequence -> p(z_t | h_t)

z_t cannot carry history: velocity, progress and all that is temporal live in the core's memory.
"""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.nn.mlp import MLP, Identity
from s5wm.worldmodel.dynamics import Belief, Latent, Posterior
from s5wm.worldmodel.latent import AbstractLatentSpace
from s5wm.worldmodel.rssm import AbstractRSSM
from s5wm.worldmodel.sequence import SequenceModel

Memory = TypeVar("Memory")


class DecoupledRSSM(AbstractRSSM[Memory], Generic[Memory]):
    """Posterior ``q(z_t | o_t)`` with any sequence core."""

    space: AbstractLatentSpace[Any, Any]
    sequence: SequenceModel[Memory]
    posterior_head: MLP | Identity
    deter_size: int = eqx.field(static=True)

    def posterior_params(self, deter: Float[Array, " D"], token: Float[Array, " E"]) -> Float[Array, " Q"]:
        """From the token alone."""
        return self.posterior_head(token)

    def observe(
        self,
        belief: Belief[Memory],
        tokens: Float[Array, "T E"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """No loop over time but the core's own scan."""
        posterior = self.space.posterior(self.posterior_head(tokens))
        stochs = self.space.sample(posterior, noise)
        shifted = jnp.concatenate([belief.latent.stoch[None], stochs[:-1]])
        memories, deter, previous = self.sequence.scan(belief.memory, shifted, prev_actions, is_first)
        prior = self.sequence.prior(deter, previous)
        return Posterior(Belief(memories, Latent(deter, stochs)), posterior, prior)
