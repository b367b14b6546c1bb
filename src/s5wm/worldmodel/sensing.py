"""Inputs and targets of a world model: vectors, images or both, with any leading axes."""

from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.nn.conv import ImageDecoder, ImageEncoder
from s5wm.nn.mlp import MLP, Identity, Slice, Trunk
from s5wm.ops.transforms import symlog
from s5wm.types import MixedObs, Obs, array_of


class Encoder(eqx.Module):
    """Observation to token."""

    network: Trunk | MLP | Identity | ImageEncoder
    symlog_inputs: bool = eqx.field(static=True)

    def __call__(self, observed: Obs) -> Float[Array, "*b E"]:
        """Tokens of observations ``[*b, O]`` or ``[*b, h, w, c]``."""
        obs = array_of(observed)
        if isinstance(self.network, ImageEncoder):
            tokens = jax.vmap(self.network)(obs.reshape(-1, *obs.shape[-3:]))
            return tokens.reshape(*obs.shape[:-3], -1)
        return self.network(symlog(obs) if self.symlog_inputs else obs)


class MixedEncoder(eqx.Module):
    """Tokens of an image and of its numbers, concatenated."""

    image: Encoder
    vector: Encoder

    def __call__(self, observed: Obs) -> Float[Array, "*b E"]:
        """Tokens ``[*b, E]``."""
        assert isinstance(observed, MixedObs), "the encoder is built by the spec"
        tokens = (self.image(jnp.asarray(observed.image)), self.vector(jnp.asarray(observed.vector)))
        return jnp.concatenate(tokens, axis=-1)


class MixedDecoder(eqx.Module):
    """An image and numbers from a feature."""

    image: ImageDecoder
    vector: MLP


AnyEncoder: TypeAlias = Encoder | MixedEncoder
PlainDecoder: TypeAlias = MLP | Slice | ImageDecoder
Decoder: TypeAlias = PlainDecoder | MixedDecoder


def decode(decoder: Decoder, feature: Float[Array, "*b F"]) -> Obs:
    """Estimates ``[*b, Y]``, ``[*b, h, w, c]``, or both, of a decoder."""
    if isinstance(decoder, MixedDecoder):
        return MixedObs(_decode(decoder.image, feature), _decode(decoder.vector, feature))
    return _decode(decoder, feature)


def _decode(decoder: PlainDecoder, feature: Float[Array, "*b F"]) -> Float[Array, "..."]:
    if isinstance(decoder, ImageDecoder):
        images = jax.vmap(decoder)(feature.reshape(-1, feature.shape[-1]))
        return images.reshape(*feature.shape[:-1], *images.shape[1:])
    return decoder(feature)
