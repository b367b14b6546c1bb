"""The world model: encoder, dynamics, decoder, two reward heads and a continue head, and its loss.

    L = sum_heads -log p(target | h_t, z_t) + b_dyn max(1, KL[sg q | p]) + b_rep max(1, KL[q | sg p])

The discount lives in the continue head, whose target is ``(1 - is_terminal) * discount``.  With
``PrivilegedStateConfig`` the decoder's term is of estimated states, and all others are of a second pass, over the
true states (``WorldModel.teacher_forced``).
"""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.nn.conv import ImageDecoder, pixels
from s5wm.nn.mlp import MLP
from s5wm.ops.distributions import Bernoulli, ScalarMixture, TwoHot
from s5wm.ops.transforms import symlog
from s5wm.types import Key, MixedObs, Obs, Reward, Scalar, TimeStep, array_of
from s5wm.worldmodel.chunk import Chunk, LossOutput
from s5wm.worldmodel.config import WorldModelConfig
from s5wm.worldmodel.dynamics import AbstractDynamics, Posterior
from s5wm.worldmodel.privileged_state import PrivilegedStateRSSM
from s5wm.worldmodel.sensing import AnyEncoder, Decoder, MixedDecoder, decode

Memory = TypeVar("Memory")

SPREAD_FLOOR = 1e-2
"""Smallest learned scale: the loss of a constant entry would be unbounded."""


class Predictions(eqx.Module):
    """Outputs of the heads at a feature."""

    reward_nominal: Float[Array, "*b"]
    reward_smoothing: Float[Array, "*b"] | None
    cont: Float[Array, "*b"]  # contains the discount

    def reward(self, smoothing_weight: Scalar | float) -> Float[Array, "*b"]:
        """``r_nom + w r_aug``."""
        return Reward(self.reward_nominal, self.reward_smoothing).total(smoothing_weight)


class WorldModel(eqx.Module, Generic[Memory]):
    """World model: a loss on chunks, and predictions for imagination; independent of tasks, actors and optimisers."""

    encoder: AnyEncoder
    dynamics: AbstractDynamics[Memory]
    decoder: Decoder
    decoder_log_scale: Float[Array, " Y"] | None  # None: squared errors
    reward_nominal: MLP
    reward_smoothing: MLP | None  # None: there is one reward
    cont: MLP
    config: WorldModelConfig = eqx.field(static=True)
    discount: float = eqx.field(static=True)

    def observe(self, chunk: Chunk[Memory], *, noise: Float[Array, "T J"] | None) -> Posterior[Memory]:
        """Posterior beliefs of a chunk."""
        tokens, is_first = self.encoder(chunk.timestep.obs), chunk.timestep.is_first
        return self.dynamics.observe(chunk.context.belief, tokens, chunk.prev_actions, is_first, noise=noise)

    def teacher_forced(
        self, chunk: Chunk[Any], out: Posterior[Any], *, noise: Float[Array, "T J"] | None
    ) -> Posterior[Any]:
        """The pass that trains prior, reward and continue heads: ``out``, or one with observed states."""
        if not isinstance(self.dynamics, PrivilegedStateRSSM):
            return out
        context, step = chunk.context, chunk.timestep
        return self.dynamics.observe_states(
            context.belief,
            self._in_symlog(context.state),
            self._in_symlog(step.state),
            chunk.prev_actions,
            step.is_first,
            noise=noise,
        )

    def nominal(self, feature: Float[Array, "*b F"]) -> TwoHot | ScalarMixture:
        """Distribution of the nominal reward received on arriving here."""
        return self.config.rewards.build(self.reward_nominal(feature))

    def smoothing(self, feature: Float[Array, "*b F"]) -> TwoHot | ScalarMixture | None:
        """Distribution of the smoothing reward received on arriving here; None where there is no such reward."""
        head = self.reward_smoothing
        return None if head is None else self.config.smoothing_rewards.build(head(feature))

    def continues(self, feature: Float[Array, "*b F"]) -> Bernoulli:
        """Discounted probability that the episode goes on."""
        return Bernoulli(self.cont(feature)[..., 0])

    def predict(self, feature: Float[Array, "*b F"]) -> Predictions:
        """Means of the scalar heads.

        The probability to go on is at most the discount: what its head adds to that, returns would count 1 / (1 -
        discount) times.
        """
        smoothing = self.smoothing(feature)
        return Predictions(
            self.nominal(feature).mean(),
            None if smoothing is None else smoothing.mean(),
            jnp.minimum(self.continues(feature).mean(), self.discount),
        )

    def target(self, timestep: TimeStep) -> Obs:
        """Outputs of the decoder: vectors in symlog if configured, pixels in [0, 1]."""
        if isinstance(self.decoder, ImageDecoder):
            return pixels(array_of(timestep.obs))
        if isinstance(self.decoder, MixedDecoder) and isinstance(timestep.obs, MixedObs):
            image, vector = jnp.asarray(timestep.obs.image), jnp.asarray(timestep.obs.vector)
            return MixedObs(pixels(image), self._in_symlog(vector))
        return self._in_symlog(
            array_of(timestep.obs) if self.config.target == "observation" else timestep.state
        )

    def _in_symlog(self, raw: Float[Array, "*b Y"]) -> Float[Array, "*b Y"]:
        return symlog(raw) if self.config.symlog_inputs else raw

    def decoder_loss(self, feature: Float[Array, "T F"], timestep: TimeStep) -> Float[Array, " T"]:
        """Squared errors, ``sum_i e_i^2``; with a learned spread ``sum_i |e_i| / b_i + log 2 b_i``.

        The latter is the likelihood of a Laplace distribution whose ``b_i`` settles at the mean of ``|e_i|`` (as
        sigma-VAE, Rybkin et al. 2021, but of a median, and one for each entry): what can be known to a hundredth
        then counts as much as what cannot, and where a frame leaves two answers, it gives one of them, not their mean.
        """
        errors = jax.tree.map(jnp.subtract, decode(self.decoder, feature), self.target(timestep))
        if self.decoder_log_scale is None:
            squares = [jnp.square(x).reshape(feature.shape[0], -1).sum(-1) for x in jax.tree.leaves(errors)]
            return sum(squares[1:], squares[0])
        (error,) = jax.tree.leaves(errors)  # a spread is learned of vectors only
        scale = jnp.broadcast_to(jnp.exp(self.decoder_log_scale) + SPREAD_FLOOR, error.shape)
        return (jnp.abs(error) / scale + jnp.log(2.0 * scale)).sum(-1)

    def loss(
        self, chunk: Chunk[Memory], *, noise: Float[Array, "T J"] | None
    ) -> tuple[Scalar, LossOutput[Memory]]:
        """Loss of one chunk (mean over time), and beliefs and metrics of the pass."""
        scales, space = self.config.scales, self.dynamics.space
        out = self.observe(chunk, noise=noise)
        teacher_forced = self.teacher_forced(chunk, out, noise=noise)
        feature, step = teacher_forced.belief.latent.feature, chunk.timestep
        stop_gradient = jax.lax.stop_gradient
        dyn = space.kl(stop_gradient(teacher_forced.posterior), teacher_forced.prior)
        rep = space.kl(teacher_forced.posterior, stop_gradient(teacher_forced.prior))
        alive = (1.0 - step.is_terminal.astype(jnp.float32)) * self.discount
        smoothing, second = self.smoothing(feature), step.reward.smoothing
        rewards = {"reward_nominal": self.nominal(feature).log_prob(step.reward.nominal)}
        if smoothing is not None and second is not None:
            rewards["reward_smoothing"] = smoothing.log_prob(second)
        terms = {
            "decoder": scales.decoder * self.decoder_loss(out.belief.latent.feature, step),
            **{name: -scales.reward * log_prob for name, log_prob in rewards.items()},
            "cont": -scales.cont * self.continues(feature).log_prob(alive),
            "dyn": scales.dyn * jnp.maximum(scales.free_nats, dyn),
            "rep": scales.rep * jnp.maximum(scales.free_nats, rep),
        }
        metrics = {f"loss/{name}": term.mean() for name, term in terms.items()}
        metrics["latent/kl"] = dyn.mean()
        metrics["latent/posterior_entropy"] = space.entropy(teacher_forced.posterior).mean()
        metrics["latent/prior_entropy"] = space.entropy(teacher_forced.prior).mean()
        total = sum((term.mean() for term in terms.values()), jnp.zeros(()))
        return total, LossOutput(out, metrics)


def batch_loss(model: WorldModel[Any], chunk: Chunk[Any], key: Key) -> tuple[Scalar, LossOutput[Any]]:
    """Mean world-model loss of a batch of chunks ``[B, ...]``, and per-sample outputs of the pass."""
    noise = model.dynamics.space.noise(key, chunk.timestep.is_first.shape)
    losses, out = jax.vmap(lambda c, n: model.loss(c, noise=n))(chunk, noise)
    return losses.mean(), out
