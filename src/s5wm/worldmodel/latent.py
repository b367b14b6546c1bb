"""The stochastic latent z: its distribution, parametrised by the output of a head.

Categorical is DreamerV3's and the paper's; Gaussian suits small models of low-dimensional states, where
categoricals need long training before they resolve centimetres (docs/lab-notes.md).
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.ops.distributions import Normal, NormalMixture, OneHot
from s5wm.types import Key

LARGEST_CHANGE = 8.0
"""Of an observed latent in a step, in units of the typical change of its component."""

Q = TypeVar("Q", bound=eqx.Module)
P = TypeVar("P", bound=eqx.Module)


class AbstractLatentSpace(eqx.Module, Generic[Q, P]):
    """Maps head outputs ``[params_size]`` to a distribution over flat samples ``[size]``."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Width ``Z`` of a flat sample."""

    @property
    @abstractmethod
    def params_size(self) -> int:
        """Numbers that a head must output."""

    @property
    def num_components(self) -> int:
        """How many of them, the first ones of the prior's, are logits that choose between components."""
        return 0

    @abstractmethod
    def posterior(self, params: Float[Array, "*b Q"]) -> Q:
        """Distribution from the output of the posterior head."""

    @abstractmethod
    def prior(self, params: Float[Array, "*b Q"], previous: Float[Array, "*b Z"]) -> P:
        """Distribution from the output of the prior head, given the sample before (zero after a reset)."""

    @abstractmethod
    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b J"]:
        """Noise for ``sample``, separate so that two passes can share it."""

    @abstractmethod
    def sample(self, dist: Q | P, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b Z"]:
        """Flat sample with a gradient; ``None`` gives the mode."""

    def choice_log_prob(self, dist: P, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b"]:
        """Log-probability of what ``sample`` chooses without a gradient; 0 where all of it has one, and of modes."""
        return jnp.zeros(jax.eval_shape(self.entropy, dist).shape)

    @abstractmethod
    def kl(self, left: Q, right: P) -> Float[Array, "*b"]:
        """``KL(left | right)`` in nats, summed over the latent."""

    @abstractmethod
    def entropy(self, dist: Q | P) -> Float[Array, "*b"]:
        """Nats, summed over the latent."""


class CategoricalSpace(AbstractLatentSpace[OneHot, OneHot]):
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


class GaussianSpace(AbstractLatentSpace[Normal, Normal]):
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


class IdentityLatent(AbstractLatentSpace[Normal, NormalMixture]):
    """The latent *is* the observation, blurred by a fixed noise; nothing is encoded or decoded.

    ``KL[q | p]`` is then about the negative log-likelihood of the next observation (up to a constant), and the prior a
    probabilistic one-step model around the sequence core.  It is a mixture, one component per typical size of a
    change: most steps move the observation a little, a few make it jump (another target, a reset of a reference),
    and a single normal would put its mean between the two.
    """

    width: int = eqx.field(static=True)
    std: float = eqx.field(static=True)
    changes: tuple[float, ...] = eqx.field(static=True)
    beta: float = eqx.field(static=True, default=0.0)

    @property
    def size(self) -> int:
        """Width of the observation."""
        return self.width

    @property
    def params_size(self) -> int:
        """Of the prior: a logit, means and log-scales per component (the posterior has no parameters)."""
        return len(self.changes) * (1 + 2 * self.width)

    @property
    def num_components(self) -> int:
        """One logit per component."""
        return len(self.changes)

    def posterior(self, params: Float[Array, "*b Q"]) -> Normal:
        """``N(o, std^2)``; ``params`` is the observation."""
        return Normal(params, jnp.full_like(params, self.std))

    def prior(self, params: Float[Array, "*b Q"], previous: Float[Array, "*b Z"]) -> NormalMixture:
        """``sum_k pi_k N(z_{t-1} + c_k m_k, (std + c_k softplus(s_k))^2)`` with the sizes of change ``c_k``.

        ``m_k`` is clipped to ``LARGEST_CHANGE`` on both sides and ``s_k`` from above, so that no rollout of an
        untrained model leaves the range of float32.
        """
        count = len(self.changes)
        logits, moments = params[..., :count], params[..., count:]
        moments = moments.reshape(*params.shape[:-1], count, 2 * self.width)
        loc, raw = jnp.split(moments, 2, axis=-1)
        loc = jnp.clip(loc, -LARGEST_CHANGE, LARGEST_CHANGE)
        raw = jnp.minimum(raw, LARGEST_CHANGE)
        change = jnp.broadcast_to(jnp.asarray(self.changes)[:, None], loc.shape)
        origin = jnp.broadcast_to(previous[..., None, :], loc.shape)
        return NormalMixture(logits, origin + change * loc, self.std + change * jax.nn.softplus(raw))

    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b J"]:
        """Standard normal per component of z, and one uniform number that picks the component of the mixture."""
        k_normal, k_uniform = jr.split(key)
        noise, uniform = jr.normal(k_normal, (*shape, self.width)), jr.uniform(k_uniform, (*shape, 1))
        return jnp.concatenate([noise, uniform], axis=-1)

    def sample(
        self, dist: Normal | NormalMixture, noise: Float[Array, "*b J"] | None
    ) -> Float[Array, "*b Z"]:
        """Reparametrised; the choice of the component has no gradient, but ``choice_log_prob`` has."""
        if noise is None:
            return dist.mode()
        normal, uniform = noise[..., :-1], noise[..., -1]
        return (
            dist.sample_with(normal, uniform) if isinstance(dist, NormalMixture) else dist.sample_with(normal)
        )

    def choice_log_prob(self, dist: NormalMixture, noise: Float[Array, "*b J"] | None) -> Float[Array, "*b"]:
        """Of the component."""
        if noise is None:
            return jnp.zeros(dist.logits.shape[:-1])
        return dist.choice_log_prob(noise[..., -1])

    def kl(self, left: Normal, right: NormalMixture) -> Float[Array, "*b"]:
        """An upper bound, tight where one component explains the observation."""
        return right.kl_from(left, beta=self.beta)

    def entropy(self, dist: Normal | NormalMixture) -> Float[Array, "*b"]:
        """Summed over the components of z; of a mixture an upper bound."""
        return dist.entropy_bound() if isinstance(dist, NormalMixture) else dist.entropy()


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
class IdentityLatentConfig:
    """No latent code: for low-dimensional states that are nearly Markov, in small models."""

    std: float = 0.0005  # of the blur, in units of the observation
    changes: tuple[float, ...] = (
        0.1,
        1.0,
    )  # typical sizes of its change in a step, one per mixture component
    beta: float = field(default=0.0, metadata={"since": "beta"})
    """How much more an entry of the prior learns the less exact it is (``NormalMixture.kl_from``); 0: by likelihood."""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"latent.std is {self.std}; it must be positive")
        if not self.changes or min(self.changes) <= 0:
            raise ValueError(f"latent.changes is {self.changes}; give at least one size, all positive")
        if not 0.0 <= self.beta <= 1.0:
            raise ValueError(
                f"latent.beta is {self.beta}; it must lie in [0, 1]: use 0.5, or 0 for the likelihood"
            )

    def build(self, inputs: int) -> IdentityLatent:
        """The latent space of an observation of ``inputs`` numbers."""
        return IdentityLatent(inputs, self.std, self.changes, self.beta)
