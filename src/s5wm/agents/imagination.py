"""Actor and critic losses: on imagined rollouts, and the critic's on replayed rewards.

    R_i = r_{i+1} + c_{i+1} [(1 - l) v_{i+1} + l R_{i+1}],   w_i = prod_{k <= i} c_k   (c contains the discount)

``reinforce`` differentiates log-probabilities along a forward-only rollout (DreamerV3); ``dynamics``
differentiates the return through the model, whose parameters are held constant.
"""

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.agents.heads import Actor, Critic
from s5wm.ops.distributions import TwoHot
from s5wm.ops.returns import lambda_return
from s5wm.ops.running import ReturnScale
from s5wm.types import Key, Metrics, Scalar, TimeStep
from s5wm.worldmodel.dynamics import Belief, imagine
from s5wm.worldmodel.model import WorldModel


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """How behaviour is learned from imagination."""

    imagination_horizon: int = 10
    starts: int | None = None  # imagination starts per update; None takes every replayed state
    gradient: Literal["reinforce", "dynamics"] = "reinforce"
    lambda_: float = 0.95
    entropy: float = 3e-4
    slow_rate: float = 0.02  # of the critic's moving average
    slow_weight: float = 1.0  # pull of the critic towards it
    critic_weight: float = 1.0
    replay_critic_weight: float = 0.3

    def __post_init__(self) -> None:
        if self.imagination_horizon < 1:
            raise ValueError(
                f"actor_critic.imagination_horizon is {self.imagination_horizon}; it must be at least 1"
            )
        if self.starts is not None and self.starts < 1:
            raise ValueError(f"actor_critic.starts is {self.starts}; use None for all, or at least 1")


class Behaviour(eqx.Module):
    """The networks involved; everything but ``actor`` and ``critic`` is held constant by the losses."""

    model: WorldModel[Any]
    actor: Actor
    critic: Critic
    slow_critic: Critic


class Rollouts(eqx.Module):
    """``K`` imagined rollouts of ``R = H + 1`` states with what the heads say of them."""

    feature: Float[Array, "K R F"]
    action: Float[Array, "K R A"]
    returns: Float[Array, "K H"]
    value: Float[Array, "K R"]
    weight: Float[Array, "K H"]


def roll_out(
    config: ActorCriticConfig, nets: Behaviour, starts: Belief[Any], *, smoothing_weight: Scalar, key: Key
) -> Rollouts:
    """Imagine from ``K`` beliefs; differentiable in the actor's parameters in ``dynamics`` mode only."""
    hold = jax.lax.stop_gradient
    model, critic = hold(nets.model), hold(nets.critic)
    actor = nets.actor if config.gradient == "dynamics" else hold(nets.actor)
    count = jax.tree.leaves(starts)[0].shape[0]
    imagined = jax.vmap(
        lambda belief, k: imagine(
            model.dynamics,
            belief,
            lambda feature, k_act: actor(feature).sample(k_act),
            horizon=config.imagination_horizon,
            key=k,
        )
    )(starts, jr.split(key, count))
    # Without the barriers XLA:CPU fuses the backward passes of all heads and recomputes each several times.
    feature = jax.lax.optimization_barrier(imagined.feature)
    said, value = jax.lax.optimization_barrier((model.predict(feature), critic(feature).mean()))
    reward = said.reward_nominal + smoothing_weight * said.reward_smoothing
    returns = jax.vmap(lambda r, c, v: lambda_return(r, c, v, v[-1], config.lambda_))(
        reward, said.cont, value
    )
    weight = hold(jnp.cumprod(said.cont[:, :-1], axis=1))
    return Rollouts(imagined.feature, imagined.action, returns, value, weight)


def actor_loss(
    config: ActorCriticConfig, actor: Actor, rolled: Rollouts, scale: ReturnScale
) -> tuple[Scalar, Metrics]:
    """``-w_i (objective_i + eta entropy_i)``, averaged."""
    hold = jax.lax.stop_gradient
    dist = actor(hold(rolled.feature[:, :-1]))
    entropy = dist.entropy()
    advantage = (rolled.returns - hold(rolled.value[:, :-1])) / scale.value
    if config.gradient == "reinforce":
        objective = dist.log_prob(hold(rolled.action[:, :-1])) * hold(advantage)
    else:
        objective = advantage
    loss = -jnp.mean(rolled.weight * (objective + config.entropy * entropy))
    metrics = {
        "loss/actor": loss,
        "actor/entropy": entropy.mean(),
        "actor/std": dist.scale.mean(),
        "advantage/abs": jnp.abs(advantage).mean(),
        "return/imagined": rolled.returns.mean(),
        "return/scale": scale.value,
    }
    return loss, metrics


def _critic_objective(
    config: ActorCriticConfig, dist: TwoHot, target: Array, slow_value: Array, weight: Array
) -> Scalar:
    error = -dist.log_prob(target) - config.slow_weight * dist.log_prob(slow_value)
    return jnp.sum(weight * error) / jnp.maximum(jnp.sum(weight), 1e-6)


def critic_loss(config: ActorCriticConfig, nets: Behaviour, rolled: Rollouts) -> Scalar:
    """Cross-entropy to the imagined returns and, as a regulariser, to the slow critic."""
    feature = jax.lax.stop_gradient(rolled.feature[:, :-1])
    slow = jax.lax.stop_gradient(nets.slow_critic(feature).mean())
    target = jax.lax.stop_gradient(rolled.returns)
    return _critic_objective(config, nets.critic(feature), target, slow, rolled.weight)


def replay_critic_loss(
    config: ActorCriticConfig,
    nets: Behaviour,
    feature: Float[Array, "B T F"],
    timestep: TimeStep,
    *,
    bootstrap: Float[Array, "B T"],
    smoothing_weight: Scalar,
) -> tuple[Scalar, Metrics]:
    """The same on real rewards: lambda-returns over the chunk that bootstrap from ``bootstrap`` (a value or an
    imagined return per step); rows with ``is_last`` have no successor and are masked.
    """
    hold = jax.lax.stop_gradient
    cont = nets.model.discount * (1.0 - timestep.is_terminal.astype(jnp.float32))
    lambdas = config.lambda_ * (1.0 - timestep.is_last.astype(jnp.float32))
    reward = timestep.reward.total(smoothing_weight)
    target = hold(
        jax.vmap(lambda r, c, v, lam: lambda_return(r, c, v, v[-1], lam))(reward, cont, bootstrap, lambdas)
    )
    valid = 1.0 - timestep.is_last[:, :-1].astype(jnp.float32)
    dist = nets.critic(feature[:, :-1])
    slow = hold(nets.slow_critic(feature[:, :-1]).mean())
    loss = _critic_objective(config, dist, target, slow, valid)
    error = jnp.square(dist.mean() - target)
    total = jnp.maximum(valid.sum(), 1.0)
    centre = jnp.sum(valid * target) / total
    spread = jnp.sum(valid * jnp.square(target - centre)) / total
    metrics = {
        "loss/replay_critic": loss,
        "return/replayed": centre,
        "value/explained": 1.0 - jnp.sum(valid * error) / total / jnp.maximum(spread, 1e-6),
    }
    return loss, metrics
