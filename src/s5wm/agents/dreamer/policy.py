"""Acting with a world model: encoder, one filter step, actor."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.heads import Actor
from s5wm.agents.dreamer.stored import StoredLatent
from s5wm.agents.optimiser import untyped
from s5wm.types import Key, Obs
from s5wm.worldmodel.dynamics import AbstractDynamics, Belief
from s5wm.worldmodel.sensing import AnyEncoder


class DreamerCarry(eqx.Module):
    """Carry of a world-model policy: its belief and the last action."""

    belief: Belief[Any]
    prev_action: Float[Array, "*b A"]


class DreamerPolicy(AbstractPolicy[DreamerCarry, StoredLatent[Any]]):
    """Encoder, one filter step, actor: no decoder, no prior, no privileged input."""

    encoder: AnyEncoder
    dynamics: AbstractDynamics[Any]
    actor: Actor

    def initial(self) -> DreamerCarry:
        """Empty memory."""
        return DreamerCarry(self.dynamics.initial(), jnp.zeros(self.actor.actions))

    def __call__(
        self, carry: DreamerCarry, obs: Obs, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[DreamerCarry, Float[Array, " A"], StoredLatent[Any]]:
        """Filter one observation and act on it; the extras are stored with the transition."""
        k_noise, k_action = (None, None) if key is None else jr.split(key)
        noise = None if k_noise is None else self.dynamics.space.noise(k_noise, ())
        belief = self.dynamics.step(carry.belief, self.encoder(obs), carry.prev_action, is_first, noise=noise)
        dist = self.actor(belief.latent.feature)
        action = dist.mode() if k_action is None else dist.sample(k_action)
        return DreamerCarry(belief, action), action, StoredLatent(belief.memory, belief.latent.stoch)

    def averaged_with(
        self, latest: "DreamerPolicy", *, rate: float, count: Int[Array, ""]
    ) -> "DreamerPolicy":
        """Exponential moving average of the parameters; a plain mean over the first ``1 / rate`` updates.

        It removes the noise that a large learning rate leaves in the parameters.
        """
        rate_now = jnp.maximum(rate, 1.0 / count.astype(jnp.float32))
        return untyped(optax.incremental_update(untyped(latest), untyped(self), rate_now))
