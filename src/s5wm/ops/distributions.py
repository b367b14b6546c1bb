"""Distributions as pytrees; the event is the last axis (OneHot: the last two), leading axes are free.

All share the verbs that make sense for them: ``mean``, ``mode``, ``sample``, ``log_prob``, ``entropy``, ``kl``.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from s5wm.ops.transforms import two_hot, two_hot_mean
from s5wm.types import Key


class OneHot(eqx.Module):
    """``S`` independent categoricals of ``K`` classes, mixed with 1 % uniform (unimix), straight-through samples."""

    logits: Float[Array, "*b S K"]
    unimix: float = eqx.field(static=True, default=0.01)

    @property
    def probs(self) -> Float[Array, "*b S K"]:
        """``(1 - u) softmax(logits) + u / K``."""
        return (1 - self.unimix) * jax.nn.softmax(self.logits) + self.unimix / self.logits.shape[-1]

    def _straight_through(self, index: Int[Array, "*b S"], probs: Float[Array, "*b S K"]) -> Array:
        onehot = jax.nn.one_hot(index, probs.shape[-1], dtype=probs.dtype)
        return jax.lax.stop_gradient(onehot - probs) + probs

    def sample(self, key: Key) -> Float[Array, "*b S K"]:
        """One-hot sample whose gradient is that of the probabilities; one uniform per categorical."""
        return self.sample_with(jr.uniform(key, self.logits.shape[:-1]))

    def sample_with(self, uniform: Float[Array, "*b S"]) -> Float[Array, "*b S K"]:
        """``sample`` with the noise given: the class is the inverse of the cumulative sum (cheaper than Gumbel)."""
        probs = self.probs
        cumulative = jnp.cumsum(jax.lax.stop_gradient(probs), axis=-1)
        index = jnp.sum(uniform[..., None] * cumulative[..., -1:] >= cumulative, axis=-1)
        return self._straight_through(jnp.minimum(index, probs.shape[-1] - 1), probs)

    def mode(self) -> Float[Array, "*b S K"]:
        """One-hot of the likeliest class."""
        probs = self.probs
        return self._straight_through(jnp.argmax(probs, axis=-1), probs)

    def log_prob(self, onehot: Float[Array, "*b S K"]) -> Float[Array, "*b"]:
        """Summed over the categoricals."""
        return jnp.sum(onehot * jnp.log(self.probs), axis=(-2, -1))

    def entropy(self) -> Float[Array, "*b"]:
        """Nats, summed over the categoricals."""
        probs = self.probs
        return -jnp.sum(probs * jnp.log(probs), axis=(-2, -1))

    def kl(self, other: "OneHot") -> Float[Array, "*b"]:
        """``KL(self | other)`` in nats, summed over the categoricals."""
        probs = self.probs
        return jnp.sum(probs * (jnp.log(probs) - jnp.log(other.probs)), axis=(-2, -1))


class OneHots(eqx.Module):
    """Independent categoricals of different sizes, their one-hots end to end; straight-through samples.

    ``groups`` are the numbers of classes; ``unimix`` is the share of a uniform distribution that is mixed in.
    """

    logits: Float[Array, "*b A"]
    groups: tuple[int, ...] = eqx.field(static=True)
    unimix: float = eqx.field(static=True, default=0.01)

    def _split(self, values: Float[Array, "*b A"]) -> list[Float[Array, "*b n"]]:
        ends = [sum(self.groups[:i]) for i in range(1, len(self.groups))]
        return jnp.split(values, ends, axis=-1)

    @property
    def probs(self) -> Float[Array, "*b A"]:
        """Probabilities of the classes; those of each categorical sum to 1."""
        parts = [
            (1 - self.unimix) * jax.nn.softmax(part) + self.unimix / part.shape[-1]
            for part in self._split(self.logits)
        ]
        return jnp.concatenate(parts, axis=-1)

    @property
    def log_probs(self) -> Float[Array, "*b A"]:
        """Their logarithms, finite where a probability is zero in float32."""
        if self.unimix:
            return jnp.log(self.probs)
        return jnp.concatenate([jax.nn.log_softmax(part) for part in self._split(self.logits)], axis=-1)

    def _straight_through(self, scores: Float[Array, "*b A"]) -> Float[Array, "*b A"]:
        chosen = [
            jax.nn.one_hot(jnp.argmax(part, axis=-1), part.shape[-1], dtype=part.dtype)
            for part in self._split(scores)
        ]
        probs = self.probs
        return jax.lax.stop_gradient(jnp.concatenate(chosen, axis=-1) - probs) + probs

    def mode(self) -> Float[Array, "*b A"]:
        """One-hots of the likeliest classes."""
        return self._straight_through(self.logits)

    def sample(self, key: Key) -> Float[Array, "*b A"]:
        """One-hots drawn from the probabilities."""
        return self.sample_with(jr.gumbel(key, self.logits.shape))

    def sample_with(self, noise: Float[Array, "*b A"]) -> Float[Array, "*b A"]:
        """``sample`` with Gumbel noise given: ``argmax(log p + noise)`` (the Gumbel-max trick)."""
        return self._straight_through(jax.lax.stop_gradient(self.log_probs) + noise)

    def log_prob(self, onehots: Float[Array, "*b A"]) -> Float[Array, "*b"]:
        """Summed over the categoricals."""
        return jnp.sum(onehots * self.log_probs, axis=-1)

    def entropy(self) -> Float[Array, "*b"]:
        """Nats, summed over the categoricals."""
        return -jnp.sum(self.probs * self.log_probs, axis=-1)


class Normal(eqx.Module):
    """Diagonal normal over the last axis."""

    loc: Float[Array, "*b A"]
    scale: Float[Array, "*b A"]

    def mean(self) -> Float[Array, "*b A"]:
        """The centre, which is also the mode."""
        return self.loc

    def mode(self) -> Float[Array, "*b A"]:
        """The centre."""
        return self.loc

    def sample(self, key: Key) -> Float[Array, "*b A"]:
        """Reparametrised sample."""
        return self.sample_with(jr.normal(key, self.loc.shape))

    def sample_with(self, noise: Float[Array, "*b A"]) -> Float[Array, "*b A"]:
        """``loc + scale * noise``."""
        return self.loc + self.scale * noise

    def log_prob(self, x: Float[Array, "*b A"]) -> Float[Array, "*b"]:
        """Summed over the last axis."""
        z = (x - self.loc) / self.scale
        return jnp.sum(-0.5 * jnp.square(z) - jnp.log(self.scale) - 0.5 * jnp.log(2 * jnp.pi), axis=-1)

    def entropy(self) -> Float[Array, "*b"]:
        """Nats, summed over the last axis."""
        return jnp.sum(jnp.log(self.scale) + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)

    def kl(self, other: "Normal") -> Float[Array, "*b"]:
        """``KL(self | other)`` in nats, summed over the last axis."""
        return jnp.sum(self.kl_of_each(other), axis=-1)

    def kl_of_each(self, other: "Normal") -> Float[Array, "*b A"]:
        """Its part of every entry."""
        ratio = jnp.square(self.scale / other.scale)
        shift = jnp.square((self.loc - other.loc) / other.scale)
        return 0.5 * (ratio + shift - 1 - jnp.log(ratio))


LEAST_CHANCE = 0.01
"""Of a component that is sampled, as a share of the likeliest one's.

One that hardly ever explains data has learned neither place nor spread.
"""


class NormalMixture(eqx.Module):
    """Mixture of ``K`` diagonal normals over the last axis.

    Samples are of components at least ``LEAST_CHANCE`` times as likely as the likeliest; likelihoods are of all.
    """

    logits: Float[Array, "*b K"]
    loc: Float[Array, "*b K A"]
    scale: Float[Array, "*b K A"]

    def _pick(self, values: Float[Array, "*b K A"], index: Int[Array, "*b"]) -> Float[Array, "*b A"]:
        return jnp.take_along_axis(values, index[..., None, None], axis=-2)[..., 0, :]

    def _likely(self) -> Float[Array, "*b K"]:
        """Logits of the choice."""
        least = self.logits.max(axis=-1, keepdims=True) + math.log(LEAST_CHANCE)
        return jnp.where(self.logits < least, -jnp.inf, self.logits)

    def _choice(self, uniform: Float[Array, "*b"]) -> Int[Array, "*b"]:
        cumulative = jnp.cumsum(jax.nn.softmax(self._likely()), axis=-1)
        return jnp.sum(uniform[..., None] >= cumulative[..., :-1], axis=-1)

    def mode(self) -> Float[Array, "*b A"]:
        """Centre of the likeliest component (which the true mode is near, where components do not overlap)."""
        return self._pick(self.loc, jnp.argmax(self.logits, axis=-1))

    def sample_with(self, noise: Float[Array, "*b A"], uniform: Float[Array, "*b"]) -> Float[Array, "*b A"]:
        """Reparametrised within the component that ``uniform`` picks; the pick has no gradient."""
        index = self._choice(uniform)
        return self._pick(self.loc, index) + self._pick(self.scale, index) * noise

    def choice_log_prob(self, uniform: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """``log pi_k`` of the component that ``uniform`` picks; it has a gradient."""
        index = self._choice(uniform)[..., None]
        return jnp.take_along_axis(jax.nn.log_softmax(self._likely()), index, axis=-1)[..., 0]

    def kl_from(self, normal: Normal, *, beta: float = 0.0) -> Float[Array, "*b"]:
        """Upper bound on ``KL(normal | self)``: ``-log sum_k pi_k exp -KL(normal | k)`` (Hershey and Olsen 2007).

        ``beta`` changes its gradient alone: that of each entry of a component is multiplied by
        ``(scale of the component / scale of normal)^(2 beta)`` (Seitzer et al. 2022).  Without it an entry with a
        wide component moves its centre ``1 / scale^2`` times as much as an exact one, so it hardly learns, and what it
        has not learned keeps the component wide.
        """
        one = Normal(normal.loc[..., None, :], normal.scale[..., None, :])
        each = one.kl_of_each(Normal(self.loc, self.scale))
        log_probs = jax.nn.log_softmax(self.logits)
        joint = log_probs - each.sum(axis=-1)
        bound = -jax.nn.logsumexp(joint, axis=-1)
        if beta == 0.0:
            return bound
        stop_gradient = jax.lax.stop_gradient
        weight = stop_gradient(self.scale / one.scale) ** (2.0 * beta)
        # The gradient of the bound is that of the components' terms, each by its share in the sum.
        share = stop_gradient(jax.nn.softmax(joint))
        learned = jnp.sum(share * (jnp.sum(weight * each, axis=-1) - log_probs), axis=-1)
        return stop_gradient(bound - learned) + learned

    def entropy_bound(self) -> Float[Array, "*b"]:
        """Upper bound in nats: mean entropy of the components plus that of the choice among them."""
        log_probs = jax.nn.log_softmax(self.logits)
        probs = jnp.exp(log_probs)
        return jnp.sum(probs * (Normal(self.loc, self.scale).entropy() - log_probs), axis=-1)


class Bernoulli(eqx.Module):
    """A flag; ``log_prob`` accepts soft targets in [0, 1]."""

    logit: Float[Array, "*b"]

    def mean(self) -> Float[Array, "*b"]:
        """Probability of 1."""
        return jax.nn.sigmoid(self.logit)

    def log_prob(self, x: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """``x log p + (1 - x) log(1 - p)``."""
        return x * jax.nn.log_sigmoid(self.logit) + (1 - x) * jax.nn.log_sigmoid(-self.logit)


class TwoHot(eqx.Module):
    """A scalar as a categorical over bins (symexp two-hot, DreamerV3); regression by cross-entropy."""

    logits: Float[Array, "*b K"]
    bins: Float[Array, " K"]

    def mean(self) -> Float[Array, "*b"]:
        """``sum p bin``, exactly 0 for uniform logits."""
        return two_hot_mean(jax.nn.softmax(self.logits), self.bins)

    def log_prob(self, x: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Minus the cross-entropy against the two-hot encoding of ``x``."""
        return jnp.sum(two_hot(x, self.bins) * jax.nn.log_softmax(self.logits), axis=-1)


class ScalarMixture(eqx.Module):
    """A scalar within ``bounds`` as a mixture of ``K`` normals."""

    logits: Float[Array, "*b K"]
    loc: Float[Array, "*b K"]
    scale: Float[Array, "*b K"]
    bounds: tuple[float, float] = eqx.field(static=True, default=(-math.inf, math.inf))

    def mean(self) -> Float[Array, "*b"]:
        """Of the mixture, clipped to the bounds."""
        return jnp.clip(jnp.sum(jax.nn.softmax(self.logits) * self.loc, axis=-1), *self.bounds)

    def log_prob(self, x: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Of the density."""
        one = jnp.broadcast_to(x[..., None, None], (*self.loc.shape, 1))
        each = Normal(self.loc[..., None], self.scale[..., None]).log_prob(one)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + each, axis=-1)


class UnitNormal(eqx.Module):
    """A scalar with normal errors of variance 1: regression by squared error, which finds the mean of what it learns.

    Returns have two modes, of flights that go on and of those that crash.  A loss that grows linearly, as
    Huber's, would find a point near their median, which does not change with a small chance of a crash.
    """

    loc: Float[Array, "*b"]

    def mean(self) -> Float[Array, "*b"]:
        """The centre."""
        return self.loc

    def log_prob(self, x: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """``-e^2/2`` of an error ``e``; without the constant."""
        return -0.5 * jnp.square(x - self.loc)
