"""Images to tokens and back, for ONE image; ``vmap`` adds batch and time.

Two families, chosen by the type of the configuration.  ``ConvConfig`` is DreamerV3's: convolution, maximum over 2 x 2
pixels, RMSNorm, SiLU, and mirrored back by doubling and convolving.  ``PatchConfig`` cuts the image into patches that
do not overlap, so that every layer is one matrix product: far less work, and what a CPU does best.
"""

import itertools
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, UInt8

from s5wm.nn.mlp import Linear, RMSNorm, fan_in_normal
from s5wm.types import Key


def pixels(image: UInt8[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """0 to 255 as 0 to 1."""
    return image.astype(jnp.float32) / 255.0


class Conv(eqx.Module):
    """Convolution with stride 1 whose output is as large as its input (zeros around it)."""

    kernel: Float[Array, "k k in out"]
    bias: Float[Array, " out"]

    def __init__(self, inputs: int, outputs: int, size: int, *, key: Key) -> None:
        self.kernel = fan_in_normal(key, (size, size, inputs, outputs), fan_in=size * size * inputs)
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h w out"]:
        """One map."""
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x[None], self.kernel, (1, 1), "SAME", dimension_numbers=layout)[0]
        return y + jnp.broadcast_to(self.bias, y.shape)


class ConvDown(eqx.Module):
    """Convolution, then the largest of each 2 x 2 pixels."""

    conv: Conv

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h2 w2 out"]:
        """Half as high and wide."""
        y = self.conv(x)
        high, wide, channels = y.shape
        return y.reshape(high // 2, 2, wide // 2, 2, channels).max(axis=(1, 3))


class ConvUp(eqx.Module):
    """Every pixel four times, then convolution."""

    conv: Conv

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h2 w2 out"]:
        """Twice as high and wide."""
        return self.conv(jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1))


class PatchDown(eqx.Module):
    """A linear map of each patch of ``size`` x ``size`` pixels."""

    linear: Linear
    size: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h2 w2 out"]:
        """``size`` times less high and wide."""
        high, wide, size = x.shape[0] // self.size, x.shape[1] // self.size, self.size
        patches = x.reshape(high, size, wide, size, x.shape[2]).transpose(0, 2, 1, 3, 4)
        return self.linear(patches.reshape(high, wide, size * size * x.shape[2]))


class PatchUp(eqx.Module):
    """A linear map to each patch of ``size`` x ``size`` pixels."""

    linear: Linear
    size: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h2 w2 out"]:
        """``size`` times higher and wider."""
        (high, wide, _), size = x.shape, self.size
        patches = self.linear(x).reshape(high, wide, size, size, -1).transpose(0, 2, 1, 3, 4)
        return patches.reshape(high * size, wide * size, -1)


class ImageEncoder(eqx.Module):
    """``x / 255 - 1/2``, then stages of map, RMSNorm and SiLU; the last map, flat, is the token."""

    stages: tuple[ConvDown | PatchDown, ...]
    norms: tuple[RMSNorm, ...]

    def __call__(self, image: UInt8[Array, "h w c"]) -> Float[Array, " E"]:
        """The token of one image."""
        x = pixels(image) - 0.5
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = jax.nn.silu(norm(stage(x)))
        return x.reshape(-1)


class ImageDecoder(eqx.Module):
    """A linear map to the smallest map, then stages of RMSNorm, SiLU and map; sigmoid of the last."""

    project: Linear
    norms: tuple[RMSNorm, ...]
    stages: tuple[ConvUp | PatchUp, ...]
    smallest: tuple[int, int, int] = eqx.field(static=True)

    def __call__(self, feature: Float[Array, " F"]) -> Float[Array, "h w c"]:
        """Pixels in (0, 1)."""
        x = self.project(feature).reshape(self.smallest)
        for norm, stage in zip(self.norms, self.stages, strict=True):
            x = stage(jax.nn.silu(norm(x)))
        return jax.nn.sigmoid(x)


@dataclass(frozen=True, kw_only=True)
class ConvConfig:
    """DreamerV3's: depth 4 at size 1m (256 tokens of 64 x 64 pixels), 16 at 12m (1024 tokens)."""

    depth: int = 16
    multipliers: tuple[int, ...] = (2, 3, 4, 4)  # of the depth, one per halving of the image
    kernel: int = 5

    def __post_init__(self) -> None:
        _check_positive("ConvConfig", self.multipliers, depth=self.depth, kernel=self.kernel)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of every stage."""
        return tuple(self.depth * multiplier for multiplier in self.multipliers)

    @property
    def factors(self) -> tuple[int, ...]:
        """By which every stage shrinks its input."""
        return (2,) * len(self.multipliers)

    def down(self, inputs: int, outputs: int, factor: int, *, key: Key) -> ConvDown:
        """A stage of the encoder."""
        del factor
        return ConvDown(Conv(inputs, outputs, self.kernel, key=key))

    def up(self, inputs: int, outputs: int, factor: int, *, key: Key) -> ConvUp:
        """A stage of the decoder."""
        del factor
        return ConvUp(Conv(inputs, outputs, self.kernel, key=key))


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """For a CPU: first patches of ``patch`` x ``patch`` pixels, then 2 x 2 patches of those, and so on."""

    patch: int = 8
    depth: int = 32
    multipliers: tuple[int, ...] = (1, 2)  # of the depth, one per stage

    def __post_init__(self) -> None:
        _check_positive("PatchConfig", self.multipliers, depth=self.depth, patch=self.patch)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of every stage."""
        return tuple(self.depth * multiplier for multiplier in self.multipliers)

    @property
    def factors(self) -> tuple[int, ...]:
        """By which every stage shrinks its input."""
        return (self.patch, *(2,) * (len(self.multipliers) - 1))

    def down(self, inputs: int, outputs: int, factor: int, *, key: Key) -> PatchDown:
        """A stage of the encoder."""
        return PatchDown(Linear(factor * factor * inputs, outputs, key=key), factor)

    def up(self, inputs: int, outputs: int, factor: int, *, key: Key) -> PatchUp:
        """A stage of the decoder."""
        return PatchUp(Linear(inputs, factor * factor * outputs, key=key), factor)


ImageConfig = ConvConfig | PatchConfig


def build_encoder(config: ImageConfig, shape: tuple[int, ...], *, key: Key) -> ImageEncoder:
    """The encoder of images ``[h, w, c]``."""
    smallest_map(config, shape)
    widths = itertools.pairwise((shape[2], *config.channels))
    keys = jr.split(key, len(config.channels))
    sizes = zip(widths, config.factors, keys, strict=True)
    stages = tuple(config.down(*pair, factor, key=k) for pair, factor, k in sizes)
    return ImageEncoder(stages, tuple(RMSNorm(channels) for channels in config.channels))


def build_decoder(config: ImageConfig, features: int, shape: tuple[int, ...], *, key: Key) -> ImageDecoder:
    """The decoder of ``features`` numbers into images ``[h, w, c]``."""
    smallest = smallest_map(config, shape)
    k_project, *keys = jr.split(key, len(config.channels) + 1)
    channels = config.channels[::-1]
    widths = itertools.pairwise((*channels, shape[2]))
    sizes = zip(widths, config.factors[::-1], keys, strict=True)
    stages = tuple(config.up(*pair, factor, key=k) for pair, factor, k in sizes)
    project = Linear(features, token_size(config, shape), key=k_project)
    return ImageDecoder(project, tuple(RMSNorm(width) for width in channels), stages, smallest)


def token_size(config: ImageConfig, shape: tuple[int, ...]) -> int:
    """Numbers in the token of an image ``[h, w, c]``."""
    high, wide, channels = smallest_map(config, shape)
    return high * wide * channels


def smallest_map(config: ImageConfig, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Shape of the last map of the encoder, the first of the decoder."""
    high, wide, shrink = shape[0], shape[1], 1
    for factor in config.factors:
        shrink *= factor
    if high % shrink or wide % shrink:
        raise ValueError(
            f"{type(config).__name__} shrinks images {shrink} times, which does not divide {high} x {wide} pixels; "
            "use fewer multipliers (one per stage), or a patch that divides the image"
        )
    return high // shrink, wide // shrink, config.channels[-1]


def _check_positive(owner: str, multipliers: tuple[int, ...], **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{owner}.{name} is {size}; it must be at least 1")
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"{owner}.multipliers is {multipliers}; give at least one, all at least 1")
