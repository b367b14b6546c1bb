"""Actor and critic networks on the world model's feature."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.nn.mlp import MLP
from s5wm.ops.distributions import Normal, TwoHot
from s5wm.ops.transforms import symexp_bins
from s5wm.types import Key


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Gaussian policy with a bounded spread (DreamerV3's defaults)."""

    units: int = 256
    layers: int = 3
    std_min: float = 0.1
    std_max: float = 1.0
    std_bias: float = 2.0  # the raw output 0 means a spread of sigmoid(bias) between the bounds

    def __post_init__(self) -> None:
        if not 0 < self.std_min <= self.std_max:
            raise ValueError(
                f"actor has std_min {self.std_min} and std_max {self.std_max}; need 0 < min <= max"
            )

    def build(self, features: int, actions: int, *, key: Key) -> "Actor":
        """A policy that starts near zero mean."""
        sizes = (features, *(self.units,) * self.layers)
        return Actor(MLP(sizes, 2 * actions, key=key, out_scale=0.01), self)


class Actor(eqx.Module):
    """``N(tanh(m), std)`` with ``std = min + (max - min) sigmoid(s + bias)``; not squashed."""

    network: MLP
    config: ActorConfig = eqx.field(static=True)

    @property
    def actions(self) -> int:
        """Width ``A`` of an action."""
        return self.network.out.bias.shape[0] // 2

    def __call__(self, feature: Float[Array, "*b F"]) -> Normal:
        """Distribution of the raw action."""
        loc, raw = jnp.split(self.network(feature), 2, axis=-1)
        low, high = self.config.std_min, self.config.std_max
        return Normal(jnp.tanh(loc), low + (high - low) * jax.nn.sigmoid(raw + self.config.std_bias))


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Two-hot value head."""

    units: int = 256
    layers: int = 3
    bins: int = 255
    limit: float = 20.0  # bins are symexp of points in [-limit, limit]

    def build(self, features: int, *, key: Key) -> "Critic":
        """A critic that starts at exactly zero."""
        sizes = (features, *(self.units,) * self.layers)
        return Critic(MLP(sizes, self.bins, key=key, out_scale=0.0), self)


class Critic(eqx.Module):
    """Distribution of the return from a feature."""

    network: MLP
    config: CriticConfig = eqx.field(static=True)

    def __call__(self, feature: Float[Array, "*b F"]) -> TwoHot:
        """The value is its mean."""
        return TwoHot(self.network(feature), symexp_bins(self.config.limit, self.config.bins))
