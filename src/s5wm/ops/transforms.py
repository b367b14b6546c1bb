"""Scalings of targets: symlog and two-hot encoding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def symlog(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """``sign(x) ln(1 + |x|)``."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Inverse of ``symlog``."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def symexp_bins(limit: float, count: int) -> Float[Array, " K"]:
    """``symexp`` of ``count`` (odd) equally spaced points in ``[-limit, limit]``, exactly symmetric."""
    half = symexp(jnp.linspace(0.0, limit, count // 2 + 1)[1:])
    return jnp.concatenate([-half[::-1], jnp.zeros(1), half])


def two_hot(x: Float[Array, "*b"], bins: Float[Array, " K"]) -> Float[Array, "*b K"]:
    """Weights on the two bins around ``x`` whose mean is ``x``, in raw units; clipped to the bins' range."""
    x = jnp.clip(x, bins[0], bins[-1])
    # Compared with all bins at once: a binary search is a loop, and bins are few.
    above = jnp.clip(jnp.searchsorted(bins, x, side="right", method="compare_all"), 1, bins.size - 1)
    below = above - 1
    weight = (x - bins[below]) / (bins[above] - bins[below])
    lower = jax.nn.one_hot(below, bins.size) * (1 - weight)[..., None]
    return lower + jax.nn.one_hot(above, bins.size) * weight[..., None]


def two_hot_mean(probs: Float[Array, "*b K"], bins: Float[Array, " K"]) -> Float[Array, "*b"]:
    """Mean of a distribution over symmetric bins, summed in +/- pairs: a symmetric one gives exactly 0."""
    half = bins.size // 2
    right, left = probs[..., half + 1 :], probs[..., :half][..., ::-1]
    return (right - left) @ bins[half + 1 :]
