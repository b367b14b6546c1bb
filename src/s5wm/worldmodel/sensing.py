"""What goes into a world model and what it has to reproduce: vectors or images, with any axes in front."""

from typing import TypeAlias

import equinox as eqx
import jax
from jaxtyping import Array, Float, Shaped

from s5wm.nn.conv import ImageDecoder, ImageEncoder
from s5wm.nn.mlp import MLP, Identity, Tail, Trunk
from s5wm.ops.transforms import symlog

Decoder: TypeAlias = MLP | Tail | ImageDecoder


class Encoder(eqx.Module):
    """Observation to token."""

    network: Trunk | MLP | Identity | ImageEncoder
    symlog_inputs: bool = eqx.field(static=True)

    def __call__(self, obs: Shaped[Array, "..."]) -> Float[Array, "*b E"]:
        """Tokens of observations ``[*b, O]`` or ``[*b, h, w, c]``."""
        if isinstance(self.network, ImageEncoder):
            tokens = jax.vmap(self.network)(obs.reshape(-1, *obs.shape[-3:]))
            return tokens.reshape(*obs.shape[:-3], -1)
        return self.network(symlog(obs) if self.symlog_inputs else obs)


def decode(decoder: Decoder, feature: Float[Array, "*b F"]) -> Float[Array, "..."]:
    """Estimates ``[*b, Y]`` or ``[*b, h, w, c]`` of a decoder."""
    if isinstance(decoder, ImageDecoder):
        images = jax.vmap(decoder)(feature.reshape(-1, feature.shape[-1]))
        return images.reshape(*feature.shape[:-1], *images.shape[1:])
    return decoder(feature)
