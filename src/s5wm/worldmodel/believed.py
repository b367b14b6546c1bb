"""Dynamics of the privileged state itself, and a filter that tells it from observations.

    h_t = core(s_{t-1}, a_{t-1}),  p(s_t | h_t)           learned from the privileged states s_t, parallel over time
    y_t, k_t = encoder(o_t)                               what one observation tells of s_t, and how well
    i_t = sigmoid(k_t) (y_t - m_t),   s~_t = m_t + i_t + correct([i_t, m_t])      m_t: mode of p(s_t | h_t)

The last line is the update of a Kalman filter with a learned gain.  The target of y_t and s~_t is s_t; y_t is held
constant in s~_t, or measurements would make up for the filter's errors of the day and a gain that shrinks would leave
them nothing to learn from.  Where an episode begins, nothing was foreseen, and s~_t = y_t.

A prior over codes of single frames has to foresee the error of the next frame, which is as large as all that a frame
does not tell; imagination then is a walk through these errors, and gradients through it lead nowhere
(docs/lab-notes.md, 10).  Here the dynamics are as sharp as the simulator, and what is not known is where imagination
begins: at the estimates s~, which are all that an acting agent has.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from s5wm.nn.mlp import MLP, Identity
from s5wm.worldmodel.decoupled import DecoupledRSSM
from s5wm.worldmodel.dynamics import Belief, Latent, Posterior
from s5wm.worldmodel.latent import AbstractLatentSpace, ObservedConfig, ObservedSpace
from s5wm.worldmodel.rssm import AbstractRSSM
from s5wm.worldmodel.sequence import SequenceModel

Memory = TypeVar("Memory")


@dataclass(frozen=True, kw_only=True)
class BelievedConfig:
    """z is the privileged state: itself where the dynamics are trained, as a filter tells it everywhere else."""

    states: ObservedConfig = field(default_factory=ObservedConfig)

    def build(self, inputs: int) -> ObservedSpace:
        """The latent space of a privileged state of ``inputs`` numbers."""
        return self.states.build(inputs)


class StateFilter(eqx.Module):
    """Puts together what was measured and what was foreseen; a token is ``[y_t, k_t]``."""

    correct: MLP

    def __call__(
        self, token: Float[Array, "*b Y"], foreseen: Float[Array, "*b P"], is_first: Bool[Array, "*b"]
    ) -> Float[Array, "*b P"]:
        """The estimate."""
        measured, trust = jnp.split(token, 2, axis=-1)
        measured = jax.lax.stop_gradient(measured)
        innovation = jax.nn.sigmoid(trust) * (measured - foreseen)
        # What is off in one entry tells of others: a position of the velocity.
        more = self.correct(jnp.concatenate([innovation, foreseen], axis=-1))
        return jnp.where(is_first[..., None], measured, foreseen + innovation + more)


class BelievedRSSM(AbstractRSSM[Memory], Generic[Memory]):
    """``z_t`` a state, estimated from what the dynamics foresee and ``o_t``."""

    space: AbstractLatentSpace[Any, Any]
    sequence: SequenceModel[Memory]
    state_filter: StateFilter
    deter_size: int = eqx.field(static=True)

    def posterior_params(
        self,
        deter: Float[Array, " D"],
        previous: Float[Array, " I"],
        token: Float[Array, " Y"],
        is_first: Bool[Array, ""],
    ) -> Float[Array, " P"]:
        """The estimate."""
        return self.state_filter(token, self._foresee(deter, previous), is_first)

    def observe(
        self,
        belief: Belief[Memory],
        tokens: Float[Array, "T Y"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """A loop over time without gradients, around small networks; the estimates follow for all steps at once.

        The filter learns from each step by itself, taking for given what the steps before it have made of theirs.
        """
        hold = jax.lax.stop_gradient
        still = hold(self)

        def advance(belief: Belief[Memory], row: Any) -> tuple[Belief[Memory], Any]:
            token, prev_action, is_first, noise = row
            memory, deter, previous = still.sequence.step(
                belief.memory, belief.latent.stoch, prev_action, is_first
            )
            foreseen = still._foresee(deter, previous)
            estimate = still.state_filter(token, foreseen, is_first)
            stoch = still.space.sample(still.space.posterior(estimate), noise)
            return Belief(memory, Latent(deter, stoch)), (memory, deter, previous, foreseen)

        start = Belief(belief.memory, Latent(jnp.zeros(self.deter_size), belief.latent.stoch))
        rows = (hold(tokens), prev_actions, is_first, noise)
        _, (memories, deter, previous, foreseen) = jax.lax.scan(advance, hold(start), rows)
        posterior = self.space.posterior(self.state_filter(tokens, foreseen, is_first))
        stoch = self.space.sample(posterior, noise)
        return Posterior(
            Belief(memories, Latent(deter, stoch)), posterior, self.sequence.prior(deter, previous)
        )

    def follow(
        self,
        belief: Belief[Memory],
        state: Float[Array, " P"],
        states: Float[Array, "T P"],
        prev_actions: Float[Array, "T A"],
        is_first: Bool[Array, " T"],
        *,
        noise: Float[Array, "T J"] | None,
    ) -> Posterior[Memory]:
        """The pass that the dynamics learn from: told the states, ``state`` being the one before the first."""
        told = DecoupledRSSM(
            space=self.space, sequence=self.sequence, posterior_head=Identity(), deter_size=self.deter_size
        )
        known = replace(belief, latent=replace(belief.latent, stoch=state))
        return told.observe(known, states, prev_actions, is_first, noise=noise)

    def _foresee(self, deter: Float[Array, "*b D"], previous: Float[Array, "*b I"]) -> Float[Array, "*b P"]:
        return self.space.sample(self.sequence.prior(deter, previous), None)
