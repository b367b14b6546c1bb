"""DreamerV3's optimiser: per-tensor gradient clipping, LaProp, linear warm-up, and a rate per group.

LaProp divides by the root mean square *before* the momentum (Ziyin et al. 2020); every coordinate moves by at
most about the learning rate per update, so slow parameters of the SSM need a larger rate of their own.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from s5wm.nn.ssm import ssm_parameter_labels


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """One optimiser for everything."""

    learning_rate: float = 4e-5
    ssm_multiplier: float = 10.0  # for nu, omega, log dt
    actor_multiplier: float = 1.0
    critic_multiplier: float = 1.0
    clip: float = 0.3  # largest update norm relative to the parameter norm
    warmup: int = 1000
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-20

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(
                f"optimiser.learning_rate is {self.learning_rate}; it must be positive, e.g. 4e-5"
            )

    def build(self) -> optax.GradientTransformation:
        """The gradient transformation for a tree with fields ``world_model``, ``actor`` and ``critic``."""
        warmup = optax.linear_schedule(0.0, 1.0, max(self.warmup, 1))
        return optax.chain(
            clip_per_tensor(self.clip),
            optax.scale_by_rms(self.beta2, self.epsilon, eps_in_sqrt=False, bias_correction=True),
            optax.ema(self.beta1, debias=True),
            optax.scale_by_schedule(lambda count: warmup(count + 1)),
            optax.stateless(self._scale),
        )

    def _scale(self, updates: Any, params: Any) -> Any:
        def scaled(path: tuple[Any, ...], update: jax.Array, label: str) -> jax.Array:
            group = {"actor": self.actor_multiplier, "critic": self.critic_multiplier}.get(path[0].name, 1.0)
            ssm = self.ssm_multiplier if label == "ssm" else 1.0
            return -self.learning_rate * group * ssm * update

        return jax.tree_util.tree_map_with_path(scaled, updates, ssm_parameter_labels(updates))


def clip_per_tensor(limit: float, floor: float = 1e-3) -> optax.GradientTransformation:
    """Adaptive gradient clipping: ``g *= min(1, limit * max(|w|, floor) / |g|)`` for each tensor."""

    def update(updates: Any, params: Any) -> Any:
        def clip(grad: jax.Array, param: jax.Array) -> jax.Array:
            allowed = limit * jnp.maximum(jnp.linalg.norm(param.reshape(-1)), floor)
            norm = jnp.linalg.norm(grad.reshape(-1))
            return grad * jnp.minimum(1.0, allowed / jnp.maximum(norm, 1e-30))

        return jax.tree.map(clip, updates, params)

    return optax.stateless(update)


def untyped(params: Any) -> Any:
    """The same tree: optax's types do not know modules."""
    return params
