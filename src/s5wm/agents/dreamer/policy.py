"""Acting with a world model: encoder, one filter step, actor."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.heads import Actor
from s5wm.agents.replay import Entry
from s5wm.types import Key, Obs
from s5wm.worldmodel.dynamics import AbstractDynamics, Belief
from s5wm.worldmodel.sensing import AnyEncoder


class DreamerCarry(eqx.Module):
    """What a world-model policy remembers: its belief and the last action."""

    belief: Belief[Any]
    prev_action: Float[Array, "*b A"]


class DreamerPolicy(AbstractPolicy[DreamerCarry, Entry[Any]]):
    """Encoder, one filter step, actor: no decoder, no prior, no privileged input."""

    encoder: AnyEncoder
    dynamics: AbstractDynamics[Any]
    actor: Actor

    def initial(self) -> DreamerCarry:
        """Empty memory."""
        return DreamerCarry(self.dynamics.initial(), jnp.zeros(self.actor.actions))

    def __call__(
        self, carry: DreamerCarry, obs: Obs, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[DreamerCarry, Float[Array, " A"], Entry[Any]]:
        """Filter one observation and act on it; the extras are what replay stores beside the row."""
        k_noise, k_action = (None, None) if key is None else jr.split(key)
        noise = None if k_noise is None else self.dynamics.space.noise(k_noise, ())
        belief = self.dynamics.step(carry.belief, self.encoder(obs), carry.prev_action, is_first, noise=noise)
        dist = self.actor(belief.latent.feature)
        action = dist.mode() if k_action is None else dist.sample(k_action)
        return DreamerCarry(belief, action), action, Entry(belief.memory, belief.latent.stoch)

    def averaged_with(
        self, latest: "DreamerPolicy", *, rate: float, count: Int[Array, ""]
    ) -> "DreamerPolicy":
        """``m + r (p - m)`` of all parameters; of the first ``1 / r`` counts the plain mean, without what came before.

        A large learning rate leaves noise in the parameters that an average does not have.
        """
        rate_now = jnp.maximum(rate, 1.0 / count.astype(jnp.float32))
        return jax.tree.map(lambda mean, now: mean + rate_now * (now - mean), self, latest)
