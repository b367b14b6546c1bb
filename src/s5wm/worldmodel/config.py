"""Configuration of a world model: the grid of cores and posteriors, latents, decoder targets, losses."""

import enum
from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.nn.conv import ConvConfig, ImageConfig, token_size
from s5wm.nn.s5 import S5Config
from s5wm.ops.distributions import ScalarMixture, TwoHot
from s5wm.ops.transforms import symexp_bins
from s5wm.types import EnvSpec
from s5wm.worldmodel.latent import CategoricalConfig, GaussianConfig, IdentityLatentConfig
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig
from s5wm.worldmodel.sequence import CoreConfig


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

    @property
    def outputs(self) -> int:
        """Of a head."""
        return self.count

    def build(self, outputs: Float[Array, "*b K"]) -> TwoHot:
        """Distribution of a reward from a head's outputs."""
        return TwoHot(outputs, symexp_bins(self.limit, self.count))


@dataclass(frozen=True, kw_only=True)
class RewardMixtureConfig:
    """Rewards as a mixture of normals, one for each typical size of a reward.

    Bins resolve a reward to their width only; a policy that learns by gradients needs to know how it changes.
    """

    sizes: tuple[float, ...]
    # No reward lies outside: a model promises more in states that it never saw, and a policy would seek them.
    bounds: tuple[float, float]
    min_std: float = 1e-3
    smoothing_bounds: tuple[float, float] | None = field(
        default=None, metadata={"since": "bounds of smoothing"}
    )  # of the smoothing reward; None: ``bounds``

    def __post_init__(self) -> None:
        for name, bounds in (("bounds", self.bounds), ("smoothing_bounds", self.smoothing_bounds)):
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError(f"reward_mixture.{name} is {bounds}; give the least reward and the largest")
        if not self.sizes or min(self.sizes) <= 0:
            raise ValueError(
                f"reward_mixture.sizes is {self.sizes}; give at least one size of a reward, all positive"
            )
        if not self.min_std > 0:
            raise ValueError(f"reward_mixture.min_std is {self.min_std}; it must be positive, e.g. 1e-3")

    @property
    def outputs(self) -> int:
        """Of a head: a logit, a mean and a log-scale for each size."""
        return 3 * len(self.sizes)

    def build(self, outputs: Float[Array, "*b K"]) -> ScalarMixture:
        """``sum_k pi_k N(c_k m_k, (min_std + c_k softplus(s_k))^2)`` with the sizes ``c_k``."""
        logits, loc, raw = jnp.split(outputs, 3, axis=-1)
        sizes = jnp.broadcast_to(jnp.asarray(self.sizes), loc.shape)
        return ScalarMixture(
            logits, sizes * loc, self.min_std + sizes * jax.nn.softplus(raw), bounds=self.bounds
        )


class PosteriorInput(enum.StrEnum):
    """Inputs of the posterior of z_t."""

    OBSERVATION = "o"  # o_t: training is parallel over time
    MEMORY = "h,o"  # h_t and o_t: training is sequential in time


LatentConfig = CategoricalConfig | GaussianConfig | IdentityLatentConfig | PrivilegedStateConfig


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Defaults are the faithful size 12m; ``presets`` holds the other sizes.

    ``core`` and ``posterior`` span the grid: S5WM is ``S5Config`` and ``o``, DreamerV3 ``BlockGRUConfig`` and
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
    learned_scale: bool = False
    linear_skips: bool = False  # linear paths around encoder, posterior, prior and decoder
    prior_products: bool = False  # the prior heads also read products of their inputs: rates turn vectors
    prior_sees_inputs: bool = False  # the prior head reads z_{t-1}, a_{t-1} besides h_t
    symlog_inputs: bool = True
    bins: BinsConfig = field(default_factory=BinsConfig)
    reward_mixture: RewardMixtureConfig | None = field(
        default=None, metadata={"since": "reward mixture"}
    )  # instead of bins; its heads read products if the prior does
    scales: LossScales = field(default_factory=LossScales)

    def __post_init__(self) -> None:
        for name in ("units", "encoder_layers", "posterior_layers", "prior_layers", "decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"world_model.{name} is {getattr(self, name)}; it must be at least 1")
        reads_products = self.prior_products and self.reward_mixture is not None
        for name, least in (("reward_layers", int(reads_products)), ("cont_layers", 0)):
            if getattr(self, name) < least:
                why = (
                    ", because the reward head reads products of its inputs (prior_products)" if least else ""
                )
                raise ValueError(
                    f"world_model.{name} is {getattr(self, name)}; it must be at least {least}{why}"
                )
        if not isinstance(self.latent, CategoricalConfig | GaussianConfig) and (
            self.posterior is PosteriorInput.MEMORY
        ):
            what = (
                "the observation itself"
                if self.has_plain_latent
                else "a state that its own estimator outputs"
            )
            raise ValueError(
                f"world_model.posterior is 'h,o', but the latent is {what} and has no use for h: choose posterior 'o', "
                "or another latent"
            )
        if isinstance(self.latent, PrivilegedStateConfig) and self.target != "privileged":
            raise ValueError(
                f"world_model.target is {self.target!r}, but the latent of PrivilegedStateConfig is the privileged "
                "state: use target 'privileged', or another latent"
            )

    @property
    def rewards(self) -> BinsConfig | RewardMixtureConfig:
        """What reward heads output."""
        return self.reward_mixture or self.bins

    @property
    def smoothing_rewards(self) -> BinsConfig | RewardMixtureConfig:
        """What the head of the smoothing reward outputs."""
        mixture = self.reward_mixture
        if mixture is None or mixture.smoothing_bounds is None:
            return self.rewards
        return replace(mixture, bounds=mixture.smoothing_bounds)

    @property
    def has_plain_latent(self) -> bool:
        """Whether z is the observation itself: nothing is encoded, and nothing needs decoding."""
        return isinstance(self.latent, IdentityLatentConfig)

    def check(self, spec: EnvSpec) -> None:
        """Raises ``ValueError`` if this configuration does not support the environment's observations."""
        if self.learned_scale and self.target == "observation" and (spec.has_images or self.has_plain_latent):
            what = "an image" if spec.has_images else "the observation, which is the latent itself"
            raise ValueError(
                f"world_model.learned_scale is true, but the decoder outputs {what}: use target 'privileged'"
            )
        if self.target == "privileged" and spec.privileged_size == 0:
            raise ValueError(
                "world_model.target is 'privileged', but this environment has no privileged vector: use target "
                "'observation' (agents s5wm and dreamerv3)"
            )
        if not spec.has_images:
            return
        if self.has_plain_latent:
            raise ValueError(
                "world_model.latent is IdentityLatentConfig, the observation itself, but this task shows images of "
                f"{spec.obs_shape}: choose GaussianConfig, CategoricalConfig or PrivilegedStateConfig"
            )
        token_size(self.image, spec.obs_shape)
