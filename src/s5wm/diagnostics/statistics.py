"""Masked statistics.

A statistic without a sample is ``UNKNOWN`` in compiled code and NaN on the host (``with_gaps``): with
``JAX_DEBUG_NANS`` a NaN in compiled code is an error of the user's.
"""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.types import Scalar

Tree = TypeVar("Tree")
Values = Array | np.ndarray

UNKNOWN = float(jnp.finfo(jnp.float32).max)


def with_gaps(statistics: Tree) -> Tree:
    """The same on the host, as NumPy arrays with NaN for ``UNKNOWN``."""

    def fill(values: np.ndarray) -> np.ndarray:
        return np.where(values == UNKNOWN, np.nan, values) if values.dtype == np.float32 else values

    return jax.tree.map(fill, jax.device_get(statistics))


class Band(eqx.Module):
    """Median and central 90 % of a non-negative error."""

    median: Float[Values, "*b"]
    lo: Float[Values, "*b"]  # 5 %
    hi: Float[Values, "*b"]  # 95 %

    @classmethod
    def of(cls, samples: Float[Array, " K *b"], valid: Bool[Array, " K *b"]) -> "Band":
        """Over the first axis, where ``valid``; between two samples by linear interpolation.

        A valid NaN, of a prediction that diverged, counts as infinite.
        """
        counts = valid & ~jnp.isnan(samples)
        ordered = jnp.sort(jnp.where(counts, samples, jnp.inf), axis=0)  # what is not valid comes last
        last = jnp.maximum(valid.sum(0), 1) - 1

        def quantile(q: float) -> Float[Array, "*b"]:
            place = q * last
            below = jnp.floor(place).astype(jnp.int32)
            low, high = (
                jnp.take_along_axis(ordered, index[None], axis=0)[0]
                for index in (below, jnp.minimum(below + 1, last))
            )
            # inf - inf and 0 inf are no numbers.
            between = jnp.where((place > below) & (high > low), (place - below) * (high - low), 0.0)
            return jnp.where(valid.any(0), low + between, UNKNOWN)

        return cls(median=quantile(0.5), lo=quantile(0.05), hi=quantile(0.95))


class Agreement(eqx.Module):
    """Agreement of predictions and real values."""

    real: Float[Values, "*b"]  # mean
    predicted: Float[Values, "*b"]  # mean
    correlation: Float[Values, "*b"]
    r2: Float[Values, "*b"]  # 1 - E(real - predicted)^2 / var(real); 0 is as good as the mean
    count: Int[Values, "*b"]

    @property
    def bias(self) -> Float[np.ndarray, "*b"]:
        """Mean of predicted less real, on the host."""
        return np.asarray(self.predicted - self.real)

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
        return cls(
            real=right,
            predicted=left,
            correlation=jnp.where(
                both > 0, (of_left * of_right).sum(0) / jnp.where(both > 0, both, 1.0), UNKNOWN
            ),
            r2=jnp.where(spread > 0, 1.0 - error / jnp.where(spread > 0, spread, 1.0), UNKNOWN),
            count=valid.sum(0),
        )


def masked_mean(values: Float[Array, " K *b"], valid: Bool[Array, " K *b"]) -> Float[Array, "*b"]:
    """Mean over the first axis of the entries that are ``valid``; ``UNKNOWN`` if none is."""
    count = valid.sum(0)
    total = jnp.where(valid, values, 0.0).sum(0)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), UNKNOWN)


def deviation(values: Float[Array, "K n"], valid: Bool[Array, " K"]) -> Scalar:
    """Root mean square distance from the mean; of one number the standard deviation.  ``UNKNOWN`` without a sample."""
    count = jnp.maximum(valid.sum(), 1)
    mean = jnp.where(valid[:, None], values, 0.0).sum(0) / count
    squares = jnp.where(valid[:, None], jnp.square(values - mean[None]), 0.0).sum()
    return jnp.where(valid.any(), jnp.sqrt(squares / count), UNKNOWN)


def auc(score: Float[Array, " K"], label: Bool[Array, " K"], valid: Bool[Array, " K"]) -> Scalar:
    """``P(score of a positive > score of a negative)``, ties count half; ``UNKNOWN`` without both kinds."""
    positive, negative = valid & label, valid & ~label
    ranked = jnp.sort(jnp.where(negative, score, jnp.inf))
    below = jnp.searchsorted(ranked, score, side="left")
    upto = jnp.searchsorted(ranked, score, side="right")
    wins = jnp.where(positive, 0.5 * (below + upto), 0.0).sum()
    pairs = positive.sum().astype(jnp.float32) * negative.sum()
    return jnp.where(pairs > 0, wins / jnp.maximum(pairs, 1.0), UNKNOWN)


def auc_of_columns(
    score: Float[Array, "K C"], label: Bool[Array, "K C"], valid: Bool[Array, "K C"]
) -> Float[Array, " C"]:
    """``auc`` of every column."""
    return jax.vmap(auc, in_axes=1)(score, label, valid)
