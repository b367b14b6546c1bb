"""Complex arithmetic on two real arrays.

A gradient of a real loss with respect to a *complex* array is the conjugate of the descent direction in
JAX, complex matrix products cannot use reduced-precision units, and complex graphs do not export.  A pair
of real arrays has none of these problems, and its gradient is an ordinary gradient.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class ComplexPair(eqx.Module):
    """``re + i im``: a complex array as two real arrays of one shape."""

    re: Float[Array, "*s"]
    im: Float[Array, "*s"]

    def __add__(self, other: "ComplexPair") -> "ComplexPair":
        """Elementwise sum."""
        return ComplexPair(self.re + other.re, self.im + other.im)

    def __mul__(self, other: "ComplexPair") -> "ComplexPair":
        """Elementwise complex product, broadcasting like arrays."""
        return ComplexPair(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)

    def __getitem__(self, index: object) -> "ComplexPair":
        """Index both parts alike."""
        return ComplexPair(self.re[index], self.im[index])

    def scaled(self, factor: float | Float[Array, "..."]) -> "ComplexPair":
        """Product with a real number or array."""
        return ComplexPair(self.re * factor, self.im * factor)

    def conj(self) -> "ComplexPair":
        """Complex conjugate."""
        return ComplexPair(self.re, -self.im)

    def reciprocal(self) -> "ComplexPair":
        """``1 / z``; ``|z|^2`` must neither overflow nor vanish."""
        norm = self.re**2 + self.im**2
        return ComplexPair(self.re / norm, -self.im / norm)

    def exp(self) -> "ComplexPair":
        """``exp(z)``."""
        radius = jnp.exp(self.re)
        return ComplexPair(radius * jnp.cos(self.im), radius * jnp.sin(self.im))

    def expm1(self) -> "ComplexPair":
        """``exp(z) - 1`` without the cancellation of the naive form: ``cos b - 1 = -2 sin(b/2)^2``."""
        re = jnp.expm1(self.re) * jnp.cos(self.im) - 2.0 * jnp.sin(0.5 * self.im) ** 2
        return ComplexPair(re, jnp.exp(self.re) * jnp.sin(self.im))

    def masked(self, drop: Bool[Array, "..."]) -> "ComplexPair":
        """Zero where ``drop``; a select, not a product, so that a dropped NaN or infinity is really gone."""
        return ComplexPair(jnp.where(drop, 0.0, self.re), jnp.where(drop, 0.0, self.im))

    def stacked(self) -> Float[Array, "*s 2"]:
        """Both parts on a new last axis, the layout of memories outside the layer."""
        return jnp.stack([self.re, self.im], axis=-1)

    @staticmethod
    def unstacked(array: Float[Array, "*s 2"]) -> "ComplexPair":
        """Inverse of ``stacked``."""
        return ComplexPair(array[..., 0], array[..., 1])
