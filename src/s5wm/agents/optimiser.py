"""DreamerV3's optimiser: per-tensor gradient clipping, LaProp, linear warm-up, and a rate per group.

LaProp divides by the root mean square *before* the momentum (Ziyin et al. 2020); every coordinate moves by at
most about the learning rate per update, so slow parameters of the SSM need a larger rate of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
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

    def build(self, *, actor_critic_delay: int = 0) -> optax.GradientTransformation:
        """The gradient transformation for a tree with fields ``world_model``, ``actor`` and ``critic``.

        Gradients of actor and critic are zero for the first ``actor_critic_delay`` updates.  Their bias corrections
        and their warm-up begin after them: else their first steps would be five to eight times too long.
        """

        def steps(count: jax.Array, path: tuple[Any, ...]) -> jax.Array:
            delay = actor_critic_delay if path[0].name in ("actor", "critic") else 0
            return jnp.maximum(count - delay, 1)

        def warm(count: jax.Array) -> jax.Array:
            return jnp.minimum(count / max(self.warmup, 1), 1.0)

        return optax.chain(
            clip_per_tensor(self.clip),
            _by_rms(self.beta2, self.epsilon, steps),
            _momentum(self.beta1, steps),
            _scheduled(warm, steps),
            optax.stateless(self._scale),
        )

    def _scale(self, updates: Any, params: Any) -> Any:
        def scaled(path: tuple[Any, ...], update: jax.Array, label: str) -> jax.Array:
            group = {"actor": self.actor_multiplier, "critic": self.critic_multiplier}.get(path[0].name, 1.0)
            ssm = self.ssm_multiplier if label == "ssm" else 1.0
            return -self.learning_rate * group * ssm * update

        return jax.tree_util.tree_map_with_path(scaled, updates, ssm_parameter_labels(updates))


Steps = Callable[[jax.Array, tuple[Any, ...]], jax.Array]
"""Updates of a parameter so far, this one included, from the number of all updates and the parameter's path."""


def _by_rms(decay: float, epsilon: float, steps: Steps) -> optax.GradientTransformation:
    """``g / (sqrt(v / (1 - decay^k)) + epsilon)`` with the running mean ``v`` of ``g^2``, after ``k`` steps."""
    known = optax.scale_by_rms(decay, epsilon, eps_in_sqrt=False, bias_correction=True)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        _, state = known.update(updates, state, params)

        def scaled(path: tuple[Any, ...], grad: jax.Array, nu: jax.Array) -> jax.Array:
            return grad / (jnp.sqrt(nu / (1.0 - decay ** steps(state.count, path))) + epsilon)

        return jax.tree_util.tree_map_with_path(scaled, updates, state.nu), state

    return optax.GradientTransformation(known.init, update)


def _momentum(decay: float, steps: Steps) -> optax.GradientTransformation:
    """``m / (1 - decay^k)`` with the running mean ``m`` of the updates, after ``k`` steps."""
    known = optax.ema(decay, debias=False)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        mean, state = known.update(updates, state, params)

        def debiased(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
            return value / (1.0 - decay ** steps(state.count, path))

        return jax.tree_util.tree_map_with_path(debiased, mean), state

    return optax.GradientTransformation(known.init, update)


def _scheduled(factor: Callable[[jax.Array], jax.Array], steps: Steps) -> optax.GradientTransformation:
    """Times ``factor(k)`` after ``k`` steps."""
    known = optax.scale_by_schedule(lambda count: 1.0)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = known.update(updates, state, params)

        def scaled(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
            return value * factor(steps(state.count, path))

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(known.init, update)


def clip_per_tensor(limit: float, floor: float = 1e-3) -> optax.GradientTransformation:
    """Adaptive gradient clipping: ``g *= min(1, limit * max(|w|, floor) / |g|)`` for each tensor."""

    def update(updates: Any, params: Any) -> Any:
        def clip(grad: jax.Array, param: jax.Array) -> jax.Array:
            allowed = limit * jnp.maximum(jnp.linalg.norm(param.reshape(-1)), floor)
            norm = jnp.linalg.norm(grad.reshape(-1))
            return grad * jnp.minimum(1.0, allowed / jnp.maximum(norm, 1e-30))

        return jax.tree.map(clip, updates, params)

    return optax.stateless(update)


def clip_norms(limit: float, *, apart: str) -> optax.GradientTransformation:
    """Clip the norm of the field ``apart`` and that of all others together, each by itself, to ``limit``."""
    clip = optax.clip_by_global_norm(limit)

    def update(updates: Any, params: Any) -> Any:
        del params
        is_apart = jax.tree_util.tree_map_with_path(lambda path, _: path[0].name == apart, updates)
        parts = [clip.update(part, clip.init(part))[0] for part in eqx.partition(updates, is_apart)]
        return eqx.combine(*parts)

    return optax.stateless(update)


def untyped(params: Any) -> Any:
    """The same tree: optax's types do not know modules."""
    return params
