"""Running statistics as pytrees."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.types import Scalar


class RunningMoments(eqx.Module):
    """Mean and variance of a stream of vectors (Chan et al. 1979, parallel form)."""

    mean: Float[Array, " O"]
    var: Float[Array, " O"]
    count: Scalar

    @classmethod
    def init(cls, size: int) -> "RunningMoments":
        """Unit variance, next to no weight."""
        return cls(jnp.zeros(size), jnp.ones(size), jnp.full((), 1e-4))

    def update(self, x: Float[Array, "*b O"]) -> "RunningMoments":
        """Moments including the new samples."""
        x = x.reshape(-1, x.shape[-1])
        size = float(x.shape[0])
        delta = x.mean(0) - self.mean
        total = self.count + size
        spread = self.var * self.count + x.var(0) * size + jnp.square(delta) * self.count * size / total
        return RunningMoments(self.mean + delta * size / total, spread / total, total)

    def normalise(self, x: Float[Array, "*b O"], clip: float = 10.0) -> Float[Array, "*b O"]:
        """Zero mean, unit variance, clipped."""
        mean, var = jnp.broadcast_to(self.mean, x.shape), jnp.broadcast_to(self.var, x.shape)
        return jnp.clip((x - mean) / jnp.sqrt(var + 1e-8), -clip, clip)


class ReturnScale(eqx.Module):
    """Running range of returns: an average (rate 0.01, from 0, not debiased) of the 5th and 95th percentile."""

    low: Scalar
    high: Scalar

    @classmethod
    def init(cls) -> "ReturnScale":
        """An empty range."""
        return cls(jnp.zeros(()), jnp.zeros(()))

    def update(self, returns: Float[Array, "*b"], rate: float = 0.01) -> "ReturnScale":
        """Move towards the percentiles of this batch."""
        low, high = jnp.percentile(returns, jnp.array([5.0, 95.0]))
        return ReturnScale(self.low + rate * (low - self.low), self.high + rate * (high - self.high))

    @property
    def value(self) -> Scalar:
        """``max(1, high - low)``: small returns are not blown up."""
        return jnp.maximum(1.0, self.high - self.low)
