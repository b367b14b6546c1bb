"""Actor and critic networks on the world model's feature."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.actions import ActionSpec, Box
from s5wm.nn.mlp import MLP
from s5wm.ops.distributions import Normal, OneHots, TwoHot, UnitNormal
from s5wm.ops.transforms import symexp_bins
from s5wm.types import Key, Scalar


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Policy with DreamerV3's defaults: Gaussian with a bounded spread, or categorical, as the actions are."""

    units: int = 256
    layers: int = 3
    std_min: float = 0.1
    std_max: float = 1.0
    std_min_final: float | None = field(default=None, metadata={"since": "falling spread"})
    """Final value of ``std_min``, reached as the learning rates fall to zero; None: constant."""
    unimix: float = field(default=0.01, metadata={"since": "choices"})  # uniform share
    std_bias: float = 2.0  # the raw output 0 means a spread of sigmoid(bias) between the bounds

    def __post_init__(self) -> None:
        if not 0 < self.std_min <= self.std_max:
            raise ValueError(
                f"actor has std_min {self.std_min} and std_max {self.std_max}; need 0 < min <= max"
            )
        if self.std_min_final is not None and not 0 < self.std_min_final <= self.std_min:
            raise ValueError(
                f"actor.std_min_final is {self.std_min_final} and std_min {self.std_min}: the least spread only falls; "
                "use a number above 0 and no more than std_min, or None"
            )

    def build(self, features: int, spec: ActionSpec, *, key: Key) -> "Actor":
        """A policy that starts near zero mean, or near equal probabilities."""
        sizes = (features, *(self.units,) * self.layers)
        if isinstance(spec, Box):
            network = MLP(sizes, 2 * spec.width, key=key, out_scale=0.01)
            floor = None if self.std_min_final is None else jnp.asarray(self.std_min, jnp.float32)
            return GaussianActor(network=network, std_floor=floor, config=self, spec=spec)
        network = MLP(sizes, spec.width, key=key, out_scale=0.01)
        return CategoricalActor(network=network, config=self, spec=spec)


SameActor = TypeVar("SameActor", bound="AbstractActor")
"""The class of an actor.  Not ``Self``, which the type checker of the tests refuses in methods."""


class AbstractActor(eqx.Module):
    """Feature to a distribution of action vectors ``[A]``."""

    network: eqx.AbstractVar[MLP]
    spec: eqx.AbstractVar[ActionSpec]

    @property
    def actions(self) -> int:
        """Width ``A`` of an action vector."""
        return self.spec.width

    @abstractmethod
    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b A"]:
        """Noise for ``sample_with`` of the distribution."""

    @abstractmethod
    def __call__(self, feature: Float[Array, "*b F"]) -> Normal | OneHots:
        """The distribution."""

    def scheduled(self: SameActor, schedule: Scalar) -> SameActor:
        """The actor once the learning rates have this factor."""
        del schedule
        return self


class GaussianActor(AbstractActor):
    """``N(tanh(m), std)`` with ``std = min + (max - min) sigmoid(s + bias)``; not squashed.

    ``std_floor`` is the ``min`` where it falls during a training.  It is not learned.
    """

    network: MLP
    std_floor: Scalar | None
    config: ActorConfig = eqx.field(static=True)
    spec: ActionSpec = eqx.field(static=True)

    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b A"]:
        """Standard normal."""
        return jr.normal(key, (*shape, self.actions))

    def __call__(self, feature: Float[Array, "*b F"]) -> Normal:
        """Distribution of the raw action."""
        loc, raw = jnp.split(self.network(feature), 2, axis=-1)
        low, high = self.config.std_min, self.config.std_max
        if self.std_floor is not None:
            low = jax.lax.stop_gradient(self.std_floor)
        return Normal(jnp.tanh(loc), low + (high - low) * jax.nn.sigmoid(raw + self.config.std_bias))

    def scheduled(self, schedule: Scalar) -> "GaussianActor":
        """With the least spread that goes with this factor of the learning rates."""
        highest, lowest = self.config.std_min, self.config.std_min_final
        if self.std_floor is None or lowest is None:
            return self
        return eqx.tree_at(lambda actor: actor.std_floor, self, lowest + (highest - lowest) * schedule)


class CategoricalActor(AbstractActor):
    """Probabilities of choices, mixed with a little of the uniform distribution (DreamerV3)."""

    network: MLP
    config: ActorConfig = eqx.field(static=True)
    spec: ActionSpec = eqx.field(static=True)

    def noise(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*b A"]:
        """Gumbel."""
        return jr.gumbel(key, (*shape, self.actions))

    def __call__(self, feature: Float[Array, "*b F"]) -> OneHots:
        """Distribution of the one-hots."""
        assert not isinstance(self.spec, Box), "build gives numbers a GaussianActor"
        return OneHots(self.network(feature), self.spec.groups, self.config.unimix)


Actor: TypeAlias = GaussianActor | CategoricalActor


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Value head: two-hot, or a number."""

    units: int = 256
    layers: int = 3
    bins: int | None = 255  # None: the value is a number and learned by squared error
    limit: float = 20.0  # bins are symexp of points in [-limit, limit]
    # It also reads products of its inputs and has a linear path, which makes the slope of the value more exact.
    products: bool = field(default=False, metadata={"since": "products in the critic"})

    def __post_init__(self) -> None:
        least = int(self.products)
        if self.layers < least:
            why = ", because it reads products of its inputs (critic.products)" if least else ""
            raise ValueError(f"critic.layers is {self.layers}; it must be at least {least}{why}")

    def build(self, features: int, *, key: Key) -> "Critic":
        """A critic that starts at exactly zero."""
        sizes, outputs = (features, *(self.units,) * self.layers), 1 if self.bins is None else self.bins
        more = self.products
        return Critic(MLP(sizes, outputs, key=key, out_scale=0.0, skip=more, products=more), self)


class Critic(eqx.Module):
    """Distribution of the return from a feature."""

    network: MLP
    config: CriticConfig = eqx.field(static=True)

    def __call__(self, feature: Float[Array, "*b F"]) -> TwoHot | UnitNormal:
        """The value is its mean."""
        out, bins = self.network(feature), self.config.bins
        return UnitNormal(out[..., 0]) if bins is None else TwoHot(out, symexp_bins(self.config.limit, bins))
