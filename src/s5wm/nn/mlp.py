"""Linear maps, RMS normalisation and the MLP every head is made of."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.types import Key

NORM_EPSILON = 1e-4  # DreamerV3's

PRODUCTS = 2**30
"""Folded into a key for them: ``fold_in`` of a small number is one of the keys that ``split`` gives."""


def fan_in_normal(key: Key, shape: tuple[int, ...], *, fan_in: int, scale: float = 1.0) -> Array:
    """Normal, truncated at two standard deviations, with variance ``scale^2 / fan_in``."""
    # 0.8796 is the standard deviation of a unit normal truncated at two.
    std = scale / 0.87962566 / fan_in**0.5
    return std * jr.truncated_normal(key, -2.0, 2.0, shape)


class Linear(eqx.Module):
    """``y = W x + b`` over the last axis; ``W`` truncated normal with variance ``scale^2 / inputs``, ``b`` zero."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __init__(self, inputs: int, outputs: int, *, key: Key, scale: float = 1.0) -> None:
        self.weight = fan_in_normal(key, (outputs, inputs), fan_in=inputs, scale=scale)
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        """Apply to the last axis."""
        y = x @ self.weight.T
        return y + jnp.broadcast_to(self.bias, y.shape)


class RMSNorm(eqx.Module):
    """``x / sqrt(mean(x^2) + eps) * scale`` over the last axis."""

    scale: Float[Array, " D"]

    def __init__(self, size: int, scale: float = 1.0) -> None:
        self.scale = jnp.full(size, scale)

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        """Normalise the last axis."""
        inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + NORM_EPSILON)
        # XLA:CPU would fuse the reduction into the product and repeat it for every element.
        inverse = jax.lax.optimization_barrier(inverse)
        return x * inverse * jnp.broadcast_to(self.scale, x.shape)


class Trunk(eqx.Module):
    """Linear-RMSNorm-SiLU, once for every width: DreamerV3's encoder of vectors, which ends in an activation."""

    hidden: tuple[Linear, ...]
    norms: tuple[RMSNorm, ...]

    def __init__(self, sizes: tuple[int, ...], *, key: Key) -> None:
        """``sizes`` = (inputs, width of every layer...)."""
        keys = jr.split(key, len(sizes) - 1)
        pairs = zip(sizes[:-1], sizes[1:], keys, strict=True)
        self.hidden = tuple(Linear(i, o, key=k) for i, o, k in pairs)
        self.norms = tuple(RMSNorm(o) for o in sizes[1:])

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        """Apply to the last axis."""
        return _through(self.hidden, self.norms, x)


def _through(hidden: tuple[Linear, ...], norms: tuple[RMSNorm, ...], x: Array) -> Array:
    for linear, norm in zip(hidden, norms, strict=True):
        x = jax.nn.silu(norm(linear(x)))
    return x


class MLP(eqx.Module):
    """``layers`` times Linear-RMSNorm-SiLU, then a Linear; ``out_scale`` 0 makes a head that starts at zero.

    ``skip`` adds a linear map from the input straight to the output.  With ``products`` both read ``[x, products(x)]``,
    half as many products as the first hidden layer is wide.
    """

    hidden: tuple[Linear, ...]
    norms: tuple[RMSNorm, ...]
    out: Linear
    skip: Linear | None
    products: "Products | None"

    def __init__(
        self,
        sizes: tuple[int, ...],
        outputs: int,
        *,
        key: Key,
        out_scale: float = 1.0,
        skip: bool = False,
        products: bool = False,
    ) -> None:
        """``sizes`` = (inputs, width of every hidden layer...)."""
        k_skip, k_out, *k_hidden = jr.split(key, len(sizes) + 1)
        self.products = None
        if products:
            count = sizes[1] // 2
            self.products = Products(sizes[0], count, key=jr.fold_in(key, PRODUCTS))
            sizes = (sizes[0] + count, *sizes[1:])
        pairs = zip(sizes[:-1], sizes[1:], k_hidden, strict=True)
        self.hidden = tuple(Linear(i, o, key=k) for i, o, k in pairs)
        self.norms = tuple(RMSNorm(o) for o in sizes[1:])
        self.out = Linear(sizes[-1], outputs, key=k_out, scale=out_scale)
        self.skip = Linear(sizes[0], outputs, key=k_skip, scale=out_scale) if skip else None

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        """Apply to the last axis."""
        if self.products is not None:
            x = jnp.concatenate([x, self.products(x)], axis=-1)
        y = self.out(_through(self.hidden, self.norms, x))
        return y if self.skip is None else y + self.skip(x)


class Products(eqx.Module):
    """``(A x + a) * (B x + b)``: rigid bodies move by products, such as rates times vectors."""

    linear: Linear

    def __init__(self, inputs: int, outputs: int, *, key: Key) -> None:
        self.linear = Linear(inputs, 2 * outputs, key=key)

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        """Apply to the last axis."""
        left, right = jnp.split(self.linear(x), 2, axis=-1)
        return left * right


class Identity(eqx.Module):
    """Passes its input on."""

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b in"]:
        """``x``."""
        return x


class Slice(eqx.Module):
    """Drops the first ``start`` numbers of its input."""

    start: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*b in"]) -> Float[Array, "*b out"]:
        """``x[start:]``."""
        return x[..., self.start :]
