"""Builds a world model from its configuration: modules of each core and posterior, and their sizes."""

import math
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.nn.conv import build_decoder, build_encoder, token_size
from s5wm.nn.mlp import MLP, Identity, Linear, RMSNorm, Slice, Trunk
from s5wm.types import EnvSpec, Key
from s5wm.worldmodel.config import PosteriorInput, WorldModelConfig
from s5wm.worldmodel.decoupled import DecoupledRSSM
from s5wm.worldmodel.dynamics import AbstractDynamics
from s5wm.worldmodel.latent import AbstractLatentSpace
from s5wm.worldmodel.model import WorldModel
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig, PrivilegedStateRSSM, StateEstimator
from s5wm.worldmodel.rssm import RSSM
from s5wm.worldmodel.sensing import AnyEncoder, Decoder, Encoder, MixedDecoder, MixedEncoder
from s5wm.worldmodel.sequence import CoreConfig, SequenceModel

Space = AbstractLatentSpace[Any, Any]

SPREAD_START = 0.1  # where learned spreads of the decoder's errors begin


def build_world_model(
    config: WorldModelConfig, spec: EnvSpec, *, discount: float, key: Key
) -> WorldModel[Any]:
    """The model for an environment of this spec; raises ``ValueError`` if it does not support the observations."""
    config.check(spec)
    k_enc, k_dyn, k_dec, k_nom, k_aug, k_cont = jr.split(key, 6)
    has_privileged_state = isinstance(config.latent, PrivilegedStateConfig)
    space = config.latent.build(spec.privileged_size if has_privileged_state else math.prod(spec.obs_shape))
    shown = spec.obs_shape if config.target == "observation" else (spec.privileged_size,)
    log_scale = jnp.full(shown, math.log(SPREAD_START)) if config.learned_scale else None
    return WorldModel(
        encoder=_encoder(config, spec, key=k_enc),
        dynamics=_dynamics(config, space, spec, key=k_dyn),
        decoder=_decoder(config, space, spec, key=k_dec),
        decoder_log_scale=log_scale,
        reward_nominal=_reward_head(config, space, key=k_nom),
        reward_smoothing=_reward_head(config, space, key=k_aug) if spec.has_smoothing else None,
        cont=_head(config, space, config.cont_layers, 1, key=k_cont),
        config=config,
        discount=discount,
    )


def _sizes(config: WorldModelConfig, space: Space, layers: int) -> tuple[int, ...]:
    """Of an MLP on the feature ``[h_t, z_t]``."""
    return (config.core.width + space.size, *(config.units,) * layers)


def _head(config: WorldModelConfig, space: Space, layers: int, outputs: int, *, key: Key) -> MLP:
    return MLP(_sizes(config, space, layers), outputs, key=key, skip=config.linear_skips)


def _reward_head(config: WorldModelConfig, space: Space, *, key: Key) -> MLP:
    """A head that starts at a reward of zero."""
    is_mixture = config.reward_mixture is not None
    return MLP(
        _sizes(config, space, config.reward_layers),
        config.rewards.outputs,
        key=key,
        out_scale=0.0,
        skip=is_mixture and config.linear_skips,
        products=is_mixture and config.prior_products,
    )


def _numbers(spec: EnvSpec) -> EnvSpec:
    """Of the numbers that come with an image."""
    return replace(spec, obs_shape=(spec.vector_size,), obs_dtype=np.dtype(np.float32), vector_size=0)


def _encoder(config: WorldModelConfig, spec: EnvSpec, *, key: Key) -> AnyEncoder:
    if spec.vector_size:
        k_image, k_vector = jr.split(key)
        image = Encoder(build_encoder(config.image, spec.obs_shape, key=k_image), symlog_inputs=False)
        return MixedEncoder(image, _plain_encoder(config, _numbers(spec), key=k_vector))
    return _plain_encoder(config, spec, key=key)


def _plain_encoder(config: WorldModelConfig, spec: EnvSpec, *, key: Key) -> Encoder:
    if spec.has_images:
        return Encoder(build_encoder(config.image, spec.obs_shape, key=key), symlog_inputs=False)
    if config.has_plain_latent:
        return Encoder(Identity(), config.symlog_inputs)
    sizes = (spec.obs_shape[0], *(config.units,) * config.encoder_layers)
    if config.linear_skips:  # a linear skip has to end as the layers do: without an activation
        return Encoder(MLP(sizes[:-1], config.units, key=key, skip=True), config.symlog_inputs)
    return Encoder(Trunk(sizes, key=key), config.symlog_inputs)


def _decoder(config: WorldModelConfig, space: Space, spec: EnvSpec, *, key: Key) -> Decoder:
    if isinstance(config.latent, PrivilegedStateConfig):
        return Slice(config.core.width)
    if config.target == "privileged":
        return _head(config, space, config.decoder_layers, spec.privileged_size, key=key)
    if spec.vector_size:
        k_image, k_vector = jr.split(key)
        image = build_decoder(config.image, config.core.width + space.size, spec.obs_shape, key=k_image)
        return MixedDecoder(
            image, _head(config, space, config.decoder_layers, spec.vector_size, key=k_vector)
        )
    if spec.has_images:
        return build_decoder(config.image, config.core.width + space.size, spec.obs_shape, key=key)
    if config.has_plain_latent:
        return Slice(config.core.width)
    return _head(config, space, config.decoder_layers, spec.obs_shape[0], key=key)


def _dynamics(config: WorldModelConfig, space: Space, spec: EnvSpec, *, key: Key) -> AbstractDynamics[Any]:
    *k_sequence, k_post = jr.split(key, 5)
    sequence, deter = _sequence(config, space, spec, keys=k_sequence), config.core.width
    decoupled = DecoupledRSSM(space=space, sequence=sequence, posterior_head=Identity(), deter_size=deter)
    if config.has_plain_latent:
        return decoupled
    token = token_size(config.image, spec.obs_shape) if spec.has_images else config.units
    token += config.units if spec.vector_size else 0
    if isinstance(config.latent, PrivilegedStateConfig):
        state_filter = _state_filter(config, config.latent.filter, token, spec, key=k_post)
        return PrivilegedStateRSSM(space=space, filter=state_filter, states=decoupled)
    is_recurrent = config.posterior is PosteriorInput.MEMORY
    sizes = (token + (deter if is_recurrent else 0), *(config.units,) * config.posterior_layers)
    head = MLP(sizes, space.params_size, key=k_post, skip=config.linear_skips)
    if is_recurrent:
        return RSSM(
            space=space, sequence=sequence, posterior_head=head, deter_size=deter, unroll=config.core.unroll
        )
    return DecoupledRSSM(space=space, sequence=sequence, posterior_head=head, deter_size=deter)


def _sequence(
    config: WorldModelConfig, space: Space, spec: EnvSpec, *, keys: list[Key]
) -> SequenceModel[Any]:
    k_in, k_core, k_prior, k_mixture = keys
    previous = space.size + spec.action_size
    read = config.core.width + (previous if config.prior_sees_inputs else 0)
    hidden, components = (read, *(config.units,) * config.prior_layers), space.num_components
    skip = config.linear_skips
    return SequenceModel(
        inputs=Linear(previous, config.core.inputs, key=k_in),
        norm=RMSNorm(config.core.inputs),
        core=config.core.build(config.core.inputs, key=k_core),
        prior_head=MLP(
            hidden, space.params_size - components, key=k_prior, skip=skip, products=config.prior_products
        ),
        # A network of its own: next to the sharp likelihood of a continuous latent, the gradient that
        # decides between components is lost in shared layers.
        mixture_logits_head=MLP(hidden, components, key=k_mixture, skip=skip, products=config.prior_products)
        if components
        else None,
        space=space,
        prior_sees_inputs=config.prior_sees_inputs,
    )


def _state_filter(
    config: WorldModelConfig, core: CoreConfig, token: int, spec: EnvSpec, *, key: Key
) -> StateEstimator[Any]:
    k_in, k_core, k_head = jr.split(key, 3)
    sizes = (core.width + token, *(config.units,) * config.posterior_layers)
    return StateEstimator(
        inputs=Linear(token + spec.action_size, core.inputs, key=k_in),
        norm=RMSNorm(core.inputs),
        core=core.build(core.inputs, key=k_core),
        head=MLP(sizes, spec.privileged_size, key=k_head, skip=config.linear_skips),
    )
