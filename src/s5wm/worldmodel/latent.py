"""The stochastic latent z: what kind of distribution it has, and how it is read from a vector of numbers.

Categorical is DreamerV3's and the paper's; Gaussian suits small models of low-dimensional states, where
categoricals need long training before they resolve centimetres (docs/lab-notes.md).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.ops.distributions import Normal, OneHot
from s5wm.types import Key

Distribution = TypeVar("Distribution", bound=eqx.Module)


class AbstractLatentSpace(eqx.Module, Generic[Distribution]):
    """Maps head outputs ``[params_size]`` to a distribution over flat samples ``[size]``."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Width ``Z`` of a flat sample."""

    @property
    @abstractmethod
    def params_size(self) -> int:
        """Numbers that a head must output."""

    @abstractmethod
    def posterior(self, params: Float[Array, "*b Q"]) -> Distribution:
        """Distribution from the output of the posterior head."""

    @abstractmethod
    def prior(self, params: Float[Array, "*b Q"], previous: Float[Array, "*b Z"]) -> Distribution:
        """Distribution from the output of the prior head, given the sample before (zero after a reset)."""

    @abstractmethod
    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b J"]:
        """Noise that ``sample`` consumes, drawn apart so that two passes can be compared sample for sample."""

    @abstractmethod
    def sample(self, dist: Distribution, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b Z"]:
        """Flat sample with a gradient; ``None`` gives the mode."""

    @abstractmethod
    def kl(self, left: Distribution, right: Distribution) -> Float[Array, "*b"]:
        """``KL(left | right)`` in nats, summed over the latent."""

    @abstractmethod
    def entropy(self, dist: Distribution) -> Float[Array, "*b"]:
        """Nats, summed over the latent."""


class CategoricalSpace(AbstractLatentSpace[OneHot]):
    """``groups`` one-hot variables of ``classes`` classes, straight-through gradients."""

    groups: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    unimix: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        """``S * K``."""
        return self.groups * self.classes

    @property
    def params_size(self) -> int:
        """One logit per class."""
        return self.groups * self.classes

    def posterior(self, params: Float[Array, "*b Q"]) -> OneHot:
        """Logits with 1 % uniform mixed in."""
        return OneHot(params.reshape(*params.shape[:-1], self.groups, self.classes), self.unimix)

    def prior(self, params: Float[Array, "*b Q"], previous: Float[Array, "*b Z"]) -> OneHot:
        """The same form as the posterior; the sample before is not used."""
        return self.posterior(params)

    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b J"]:
        """One uniform number per categorical."""
        return jr.uniform(key, (*shape, self.groups))

    def sample(self, dist: OneHot, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b Z"]:
        """Flattened one-hots."""
        onehot = dist.mode() if noise is None else dist.sample_with(noise)
        return onehot.reshape(*onehot.shape[:-2], self.size)

    def kl(self, left: OneHot, right: OneHot) -> Float[Array, "*b"]:
        """Summed over the categoricals."""
        return left.kl(right)

    def entropy(self, dist: OneHot) -> Float[Array, "*b"]:
        """Summed over the categoricals."""
        return dist.entropy()


class GaussianSpace(AbstractLatentSpace[Normal]):
    """Diagonal normal; the prior predicts the *change* of the mean, which is small at 50 Hz."""

    width: int = eqx.field(static=True)
    min_std: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        """``width``."""
        return self.width

    @property
    def params_size(self) -> int:
        """Mean and log-scale of each component."""
        return 2 * self.width

    def posterior(self, params: Float[Array, "*b Q"]) -> Normal:
        """``N(m, (min_std + softplus(s - 2))^2)``."""
        loc, raw = jnp.split(params, 2, axis=-1)
        return Normal(loc, self.min_std + jax.nn.softplus(raw - 2.0))

    def prior(self, params: Float[Array, "*b Q"], previous: Float[Array, "*b Z"]) -> Normal:
        """``N(z_{t-1} + m, ...)``."""
        delta = self.posterior(params)
        return Normal(previous + delta.loc, delta.scale)

    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b J"]:
        """Standard normal."""
        return jr.normal(key, (*shape, self.width))

    def sample(self, dist: Normal, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b Z"]:
        """Reparametrised."""
        return dist.mode() if noise is None else dist.sample_with(noise)

    def kl(self, left: Normal, right: Normal) -> Float[Array, "*b"]:
        """Summed over the components."""
        return left.kl(right)

    def entropy(self, dist: Normal) -> Float[Array, "*b"]:
        """Summed over the components."""
        return dist.entropy()


class ObservedSpace(AbstractLatentSpace[Normal]):
    """The latent *is* the observation, blurred by a fixed noise; nothing is encoded or decoded.

    ``KL[q | p]`` is then the negative log-likelihood of the next observation (up to a constant), and the
    prior a probabilistic one-step model around the sequence core.
    """

    width: int = eqx.field(static=True)
    std: float = eqx.field(static=True)
    step: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        """Width of the observation."""
        return self.width

    @property
    def params_size(self) -> int:
        """Mean and log-scale of each component (of the prior; the posterior has no parameters)."""
        return 2 * self.width

    def posterior(self, params: Float[Array, "*b Q"]) -> Normal:
        """``N(o, std^2)``; ``params`` is the observation."""
        return Normal(params, jnp.full_like(params, self.std))

    def prior(self, params: Float[Array, "*b Q"], previous: Float[Array, "*b Z"]) -> Normal:
        """``N(z_{t-1} + step m, (std + step softplus(s))^2)``: ``step`` is the size of a typical change."""
        loc, raw = jnp.split(params, 2, axis=-1)
        return Normal(previous + self.step * loc, self.std + self.step * jax.nn.softplus(raw))

    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b J"]:
        """Standard normal."""
        return jr.normal(key, (*shape, self.width))

    def sample(self, dist: Normal, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b Z"]:
        """Reparametrised."""
        return dist.mode() if noise is None else dist.sample_with(noise)

    def kl(self, left: Normal, right: Normal) -> Float[Array, "*b"]:
        """Summed over the components."""
        return left.kl(right)

    def entropy(self, dist: Normal) -> Float[Array, "*b"]:
        """Summed over the components."""
        return dist.entropy()


@dataclass(frozen=True, kw_only=True)
class CategoricalConfig:
    """DreamerV3's latent: 32 groups; 4 classes at size 1m, 16 at 12m."""

    groups: int = 32
    classes: int = 16
    unimix: float = 0.01

    def __post_init__(self) -> None:
        if self.groups < 1 or self.classes < 2:
            raise ValueError(
                f"latent has {self.groups} groups of {self.classes} classes; it needs at least 1 group of 2"
            )

    def build(self, inputs: int) -> CategoricalSpace:
        """The latent space."""
        return CategoricalSpace(self.groups, self.classes, self.unimix)


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """A continuous latent with a residual prior."""

    width: int = 32
    min_std: float = 0.01

    def __post_init__(self) -> None:
        if self.width < 1 or self.min_std <= 0:
            raise ValueError(
                f"latent width is {self.width} and min_std {self.min_std}; both must be positive"
            )

    def build(self, inputs: int) -> GaussianSpace:
        """The latent space."""
        return GaussianSpace(self.width, self.min_std)


@dataclass(frozen=True, kw_only=True)
class ObservedConfig:
    """No latent code: for low-dimensional states that are nearly Markov, in small models."""

    std: float = 0.002  # of the blur, in units of the observation
    step: float = 0.1  # typical change of the observation in a step, its scale in the prior

    def __post_init__(self) -> None:
        if self.std <= 0 or self.step <= 0:
            raise ValueError(f"latent std is {self.std} and step {self.step}; both must be positive")

    def build(self, inputs: int) -> ObservedSpace:
        """The latent space of an observation of ``inputs`` numbers."""
        return ObservedSpace(inputs, self.std, self.step)


LatentConfig = CategoricalConfig | GaussianConfig | ObservedConfig
