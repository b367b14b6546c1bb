"""Statistics over samples of which some do not count: those are NaN, or masked out."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.types import Scalar


class Band(eqx.Module):
    """Median and central 90 % of a non-negative error; NaN where there was no sample."""

    median: Float[Array, "*b"]
    lo: Float[Array, "*b"]  # 5 %
    hi: Float[Array, "*b"]  # 95 %

    @classmethod
    def of(cls, samples: Float[Array, " K *b"]) -> "Band":
        """Over the first axis, without its NaNs."""
        lo, median, hi = jnp.nanquantile(samples, jnp.asarray([0.05, 0.5, 0.95]), axis=0)
        return cls(median, lo, hi)


class Agreement(eqx.Module):
    """How well a prediction agrees with what came true."""

    real: Float[Array, "*b"]  # mean
    predicted: Float[Array, "*b"]  # mean
    correlation: Float[Array, "*b"]
    r2: Float[Array, "*b"]  # 1 - E(real - predicted)^2 / var(real); 0 is as good as the mean
    count: Int[Array, "*b"]

    @property
    def bias(self) -> Float[Array, "*b"]:
        """Mean of predicted less real."""
        return self.predicted - self.real

    @classmethod
    def of(
        cls, predicted: Float[Array, " K *b"], real: Float[Array, " K *b"], valid: Bool[Array, " K *b"]
    ) -> "Agreement":
        """Over the first axis, where ``valid``."""
        left, right = masked_mean(predicted, valid), masked_mean(real, valid)
        of_left = jnp.where(valid, predicted - left[None], 0.0)
        of_right = jnp.where(valid, real - right[None], 0.0)
        spread = jnp.square(of_right).sum(0)
        both = jnp.sqrt(jnp.square(of_left).sum(0) * spread)
        error = jnp.where(valid, jnp.square(predicted - real), 0.0).sum(0)
        nan = jnp.nan
        return cls(
            real=right,
            predicted=left,
            correlation=jnp.where(
                both > 0, (of_left * of_right).sum(0) / jnp.where(both > 0, both, 1.0), nan
            ),
            r2=jnp.where(spread > 0, 1.0 - error / jnp.where(spread > 0, spread, 1.0), nan),
            count=valid.sum(0),
        )


def masked_mean(values: Float[Array, " K *b"], valid: Bool[Array, " K *b"]) -> Float[Array, "*b"]:
    """Mean over the first axis of the entries that are ``valid``; NaN if none is."""
    count = valid.sum(0)
    total = jnp.where(valid, values, 0.0).sum(0)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def auc(score: Float[Array, " K"], label: Bool[Array, " K"], valid: Bool[Array, " K"]) -> Scalar:
    """``P(score of a positive > score of a negative)``, ties count half; NaN without both kinds."""
    positive, negative = valid & label, valid & ~label
    ranked = jnp.sort(jnp.where(negative, score, jnp.inf))
    below = jnp.searchsorted(ranked, score, side="left")
    upto = jnp.searchsorted(ranked, score, side="right")
    wins = jnp.where(positive, 0.5 * (below + upto), 0.0).sum()
    pairs = positive.sum().astype(jnp.float32) * negative.sum()
    return jnp.where(pairs > 0, wins / jnp.maximum(pairs, 1.0), jnp.nan)


def auc_of_columns(
    score: Float[Array, "K C"], label: Bool[Array, "K C"], valid: Bool[Array, "K C"]
) -> Float[Array, " C"]:
    """``auc`` of every column."""
    return jax.vmap(auc, in_axes=1)(score, label, valid)
