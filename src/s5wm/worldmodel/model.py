"""The world model: encoder, dynamics, decoder, two reward heads and a continue head, and its loss.

    L = sum_heads -log p(target | h_t, z_t) + b_dyn max(1, KL[sg q | p]) + b_rep max(1, KL[q | sg p])

The discount lives in the continue head, whose target is ``(1 - is_terminal) * discount``.
"""

import enum
import math
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.nn.conv import (
    ConvConfig,
    ImageConfig,
    ImageDecoder,
    build_decoder,
    build_encoder,
    pixels,
    token_size,
)
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.mlp import MLP, Identity, Linear, RMSNorm, Tail
from s5wm.nn.s5 import S5Config
from s5wm.ops.distributions import Bernoulli, TwoHot
from s5wm.ops.transforms import symexp_bins, symlog
from s5wm.types import EnvSpec, Key, Scalar, TimeStep
from s5wm.worldmodel.chunk import Chunk, Learned
from s5wm.worldmodel.decoupled import DecoupledRSSM
from s5wm.worldmodel.dynamics import AbstractDynamics, Posterior
from s5wm.worldmodel.latent import AbstractLatentSpace, CategoricalConfig, LatentConfig, ObservedConfig
from s5wm.worldmodel.rssm import RSSM
from s5wm.worldmodel.sensing import Decoder, Encoder, decode
from s5wm.worldmodel.sequence import SequenceModel

Memory = TypeVar("Memory")

SPREAD_START, SPREAD_FLOOR = 0.1, 1e-2
"""Where learned spreads begin, and their least: an entry that never changes would count without limit."""


@dataclass(frozen=True, kw_only=True)
class LossScales:
    """Weights of the world-model loss (DreamerV3's)."""

    decoder: float = 1.0
    reward: float = 1.0
    cont: float = 1.0
    dyn: float = 1.0
    rep: float = 0.1
    free_nats: float = 1.0


@dataclass(frozen=True, kw_only=True)
class BinsConfig:
    """Support of two-hot heads: ``symexp`` of ``count`` points in ``[-limit, limit]``."""

    count: int = 255
    limit: float = 20.0

    def __post_init__(self) -> None:
        if self.count < 3 or self.count % 2 == 0:
            raise ValueError(f"bins.count is {self.count}; it must be odd and at least 3")

    def build(self) -> Float[Array, " K"]:
        """The bins."""
        return symexp_bins(self.limit, self.count)


class PosteriorInput(enum.StrEnum):
    """What the posterior of z_t reads."""

    OBSERVATION = "o"  # o_t: training is parallel over time
    MEMORY = "h,o"  # h_t and o_t: training walks through time


CoreConfig = S5Config | BlockGRUConfig


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Defaults are the faithful size 12m; ``presets`` holds the other sizes.

    ``core`` and ``posterior`` span the lattice: S5WM is ``S5Config`` and ``o``, DreamerV3 ``BlockGRUConfig`` and
    ``h,o``.
    """

    core: CoreConfig = field(default_factory=S5Config)
    posterior: PosteriorInput = PosteriorInput.OBSERVATION
    latent: LatentConfig = field(default_factory=CategoricalConfig)
    image: ImageConfig = field(default_factory=ConvConfig)  # where observations are images
    target: Literal["observation", "privileged"] = "observation"
    units: int = 256
    encoder_layers: int = 3
    posterior_layers: int = 1
    prior_layers: int = 2
    decoder_layers: int = 3
    reward_layers: int = 1
    cont_layers: int = 1
    # Of the decoder's error in each entry, so that each counts by what it can be known to.
    learned_spread: bool = False
    linear_skips: bool = False  # linear paths around encoder, posterior, prior and decoder
    prior_sees_inputs: bool = False  # the prior head reads z_{t-1}, a_{t-1} besides h_t
    symlog_inputs: bool = True
    bins: BinsConfig = field(default_factory=BinsConfig)
    scales: LossScales = field(default_factory=LossScales)

    def __post_init__(self) -> None:
        for name in ("units", "encoder_layers", "posterior_layers", "prior_layers", "decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"world_model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.has_plain_latent and self.posterior is PosteriorInput.MEMORY:
            raise ValueError(
                "world_model.posterior is 'h,o', but an observed latent is the observation itself and has no use for "
                "h: choose posterior 'o', or another latent"
            )

    @property
    def has_plain_latent(self) -> bool:
        """Whether z is the observation itself: nothing is encoded, and nothing needs decoding."""
        return isinstance(self.latent, ObservedConfig)

    def check(self, spec: EnvSpec) -> None:
        """Raises ``ValueError`` if no model of this configuration can see what the environment shows."""
        if (
            self.learned_spread
            and self.target == "observation"
            and (spec.has_images or self.has_plain_latent)
        ):
            what = "an image" if spec.has_images else "the observation, which is the latent itself"
            raise ValueError(
                f"world_model.learned_spread is true, but the decoder tells {what}: use target 'privileged'"
            )
        if not spec.has_images:
            return
        if self.has_plain_latent:
            raise ValueError(
                "world_model.latent is ObservedConfig, the observation itself, but this task shows images of "
                f"{spec.obs_shape}: choose GaussianConfig or CategoricalConfig"
            )
        token_size(self.image, spec.obs_shape)

    def build(self, spec: EnvSpec, *, discount: float, key: Key) -> "WorldModel[Any]":
        """The model for an environment of this spec."""
        k_enc, k_dyn, k_dec, k_nom, k_aug, k_cont = jr.split(key, 6)
        self.check(spec)
        units, skip = self.units, self.linear_skips
        space = self.latent.build(math.prod(spec.obs_shape))
        feature = self.core.width + space.size

        def head(layers: int, outputs: int, key: Key, *, zero: bool) -> MLP:
            sizes = (feature, *(units,) * layers)
            return MLP(sizes, outputs, key=key, out_scale=0.0 if zero else 1.0, skip=skip and not zero)

        def decoder() -> Decoder:
            if self.target == "privileged":
                return head(self.decoder_layers, spec.privileged_size, k_dec, zero=False)
            if spec.has_images:
                return build_decoder(self.image, feature, spec.obs_shape, key=k_dec)
            if self.has_plain_latent:
                return Tail(self.core.width)
            return head(self.decoder_layers, spec.obs_shape[0], k_dec, zero=False)

        shown = spec.obs_shape if self.target == "observation" else (spec.privileged_size,)
        return WorldModel(
            encoder=self._encoder(spec, key=k_enc),
            dynamics=self._dynamics(space, spec, key=k_dyn),
            decoder=decoder(),
            decoder_log_std=jnp.full(shown, math.log(SPREAD_START)) if self.learned_spread else None,
            reward_nominal=head(self.reward_layers, self.bins.count, k_nom, zero=True),
            reward_smoothing=head(self.reward_layers, self.bins.count, k_aug, zero=True),
            cont=head(self.cont_layers, 1, k_cont, zero=False),
            config=self,
            discount=discount,
        )

    def _encoder(self, spec: EnvSpec, *, key: Key) -> Encoder:
        if spec.has_images:
            return Encoder(build_encoder(self.image, spec.obs_shape, key=key), symlog_inputs=False)
        if self.has_plain_latent:
            return Encoder(Identity(), self.symlog_inputs)
        sizes = (spec.obs_shape[0], *(self.units,) * (self.encoder_layers - 1))
        return Encoder(MLP(sizes, self.units, key=key, skip=self.linear_skips), self.symlog_inputs)

    def _dynamics(
        self, space: AbstractLatentSpace[Any, Any], spec: EnvSpec, *, key: Key
    ) -> AbstractDynamics[Any]:
        k_in, k_core, k_prior, k_switch, k_post = jr.split(key, 5)
        skip = self.linear_skips
        previous = space.size + spec.action_size
        core = self.core.build(self.core.inputs, key=k_core)
        prior_in = self.core.width + (previous if self.prior_sees_inputs else 0)
        hidden, switches = (prior_in, *(self.units,) * self.prior_layers), space.switches
        sequence = SequenceModel(
            inputs=Linear(previous, self.core.inputs, key=k_in),
            norm=RMSNorm(self.core.inputs),
            core=core,
            prior_head=MLP(hidden, space.params_size - switches, key=k_prior, skip=skip),
            # A network of its own: beside the sharp likelihood of a continuous latent, the gradient that
            # decides between components is lost in shared layers.
            switch_head=MLP(hidden, switches, key=k_switch, skip=skip) if switches else None,
            space=space,
            prior_sees_inputs=self.prior_sees_inputs,
        )
        deter = self.core.width
        if self.has_plain_latent:
            return DecoupledRSSM(space=space, sequence=sequence, posterior_head=Identity(), deter_size=deter)
        is_recurrent = self.posterior is PosteriorInput.MEMORY
        token = token_size(self.image, spec.obs_shape) if spec.has_images else self.units
        sizes = (token + (deter if is_recurrent else 0), *(self.units,) * self.posterior_layers)
        head = MLP(sizes, space.params_size, key=k_post, skip=skip)
        if is_recurrent:
            return RSSM(
                space=space, sequence=sequence, posterior_head=head, deter_size=deter, unroll=self.core.unroll
            )
        return DecoupledRSSM(space=space, sequence=sequence, posterior_head=head, deter_size=deter)


class Predictions(eqx.Module):
    """What the heads say of a feature."""

    reward_nominal: Float[Array, "*b"]
    reward_smoothing: Float[Array, "*b"]
    cont: Float[Array, "*b"]  # contains the discount


class WorldModel(eqx.Module, Generic[Memory]):
    """Learns from chunks, then serves imagination; knows nothing of tasks, actors or optimisers."""

    encoder: Encoder
    dynamics: AbstractDynamics[Memory]
    decoder: Decoder
    decoder_log_std: Float[Array, " P"] | None  # None: 1 everywhere, up to a constant
    reward_nominal: MLP
    reward_smoothing: MLP
    cont: MLP
    config: WorldModelConfig = eqx.field(static=True)
    discount: float = eqx.field(static=True)

    def observe(self, chunk: Chunk[Memory], *, noise: Float[Array, "T J"] | None) -> Posterior[Memory]:
        """Posterior beliefs of a chunk."""
        tokens = self.encoder(chunk.timestep.obs)
        prev_actions = jnp.concatenate([chunk.context.action[None], chunk.action[:-1]])
        return self.dynamics.observe(
            chunk.context.belief, tokens, prev_actions, chunk.timestep.is_first, noise=noise
        )

    def nominal(self, feature: Float[Array, "*b F"]) -> TwoHot:
        """Distribution of the nominal reward received on arriving here."""
        return TwoHot(self.reward_nominal(feature), self.config.bins.build())

    def smoothing(self, feature: Float[Array, "*b F"]) -> TwoHot:
        """Distribution of the smoothing reward received on arriving here."""
        return TwoHot(self.reward_smoothing(feature), self.config.bins.build())

    def continues(self, feature: Float[Array, "*b F"]) -> Bernoulli:
        """Discounted probability that the episode goes on."""
        return Bernoulli(self.cont(feature)[..., 0])

    def predict(self, feature: Float[Array, "*b F"]) -> Predictions:
        """Means of the scalar heads."""
        return Predictions(
            self.nominal(feature).mean(), self.smoothing(feature).mean(), self.continues(feature).mean()
        )

    def target(self, timestep: TimeStep) -> Float[Array, "..."]:
        """What the decoder has to say, in its own units: vectors in symlog where configured, pixels in [0, 1]."""
        if isinstance(self.decoder, ImageDecoder):
            return pixels(timestep.obs)
        raw = timestep.obs if self.config.target == "observation" else timestep.privileged
        return symlog(raw) if self.config.symlog_inputs else raw

    def decoder_loss(self, feature: Float[Array, "T F"], timestep: TimeStep) -> Float[Array, " T"]:
        """Squared errors, ``sum_i e_i^2``; with a learned spread ``sum_i e_i^2 / (2 s_i^2) + log s_i``.

        The latter is the likelihood of a Gaussian whose ``s_i`` settles at the error's own size (Rybkin et al. 2021,
        sigma-VAE, with one for each entry): what can be known to a hundredth then counts as much as what cannot.
        """
        error = decode(self.decoder, feature) - self.target(timestep)
        if self.decoder_log_std is None:
            return jnp.square(error).reshape(feature.shape[0], -1).sum(-1)
        variance = jnp.broadcast_to(jnp.exp(2.0 * self.decoder_log_std) + SPREAD_FLOOR**2, error.shape)
        return 0.5 * (jnp.square(error) / variance + jnp.log(variance)).sum(-1)

    def loss(
        self, chunk: Chunk[Memory], *, noise: Float[Array, "T J"] | None
    ) -> tuple[Scalar, Learned[Memory]]:
        """Loss of one chunk (mean over time), and beliefs, surprise and metrics of the pass."""
        scales, space = self.config.scales, self.dynamics.space
        out = self.observe(chunk, noise=noise)
        feature, step = out.belief.latent.feature, chunk.timestep
        hold = jax.lax.stop_gradient
        dyn = space.kl(hold(out.posterior), out.prior)
        rep = space.kl(out.posterior, hold(out.prior))
        alive = (1.0 - step.is_terminal.astype(jnp.float32)) * self.discount
        terms = {
            "decoder": scales.decoder * self.decoder_loss(feature, step),
            "reward_nominal": -scales.reward * self.nominal(feature).log_prob(step.reward.nominal),
            "reward_smoothing": -scales.reward * self.smoothing(feature).log_prob(step.reward.smoothing),
            "cont": -scales.cont * self.continues(feature).log_prob(alive),
            "dyn": scales.dyn * jnp.maximum(scales.free_nats, dyn),
            "rep": scales.rep * jnp.maximum(scales.free_nats, rep),
        }
        foreseen = ("dyn", "reward_nominal", "reward_smoothing", "cont")
        surprise = hold(sum((terms[name] for name in foreseen), jnp.zeros(())))
        metrics = {f"loss/{name}": term.mean() for name, term in terms.items()}
        metrics["latent/kl"] = dyn.mean()
        metrics["latent/posterior_entropy"] = space.entropy(out.posterior).mean()
        metrics["latent/prior_entropy"] = space.entropy(out.prior).mean()
        total = sum((term.mean() for term in terms.values()), jnp.zeros(()))
        return total, Learned(out, jnp.where(step.is_first, 0.0, surprise), metrics)
