"""Actor and critic losses: on imagined rollouts, and the critic's on replayed rewards.

    R_i = r_{i+1} + c_{i+1} [(1 - l) v_{i+1} + l R_{i+1}],   w_i = prod_{k <= i} c_k   (c contains the discount)

``reinforce`` differentiates log-probabilities along a forward-only rollout (DreamerV3); ``dynamics``
differentiates returns through the model, whose parameters are held constant: ``sum_i w_i R_i``, or with
``own_returns``, as REINFORCE does, for each action the return of its own state alone:

    w_i dR_i/da_i = lambda^-i w_0 dR_0/da_i,

since ``a_i`` changes ``R_0`` only by way of ``R_i``, which ``R_0`` holds with the weight ``lambda^i w_i / w_0``.  The
sum counts a reward once for every state before it: of 40 imagined steps its gradient is mostly that of late rewards,
and where flights already succeed it points away from better ones (docs/lab-notes.md, 13).

Where the model's prior chooses, a component of a mixture for instance, its sample has no gradient.  There the gradient
of ``sum_i w_i R_i`` has a second part: the score of each choice, times all that the choice leads to,

    sum_k d log p(choice_{k+1}) [sum_{i <= k} w_i (prod_{i < j <= k} l c_j) (R_k - v_k) + sum_{i > k} w_i (R_i - v_k)],

as in any stochastic computation graph (Schulman et al. 2015), and that of a single ``R_i`` its part of the first sum;
without it an actor does not see that what it does makes the pass of a gate more likely.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from s5wm.agents.dreamer.heads import Actor, Critic
from s5wm.ops.distributions import Normal, TwoHot, UnitNormal
from s5wm.ops.returns import lambda_return
from s5wm.ops.running import ReturnScale
from s5wm.types import Key, Metrics, Scalar, TimeStep
from s5wm.worldmodel.dynamics import Belief, Imagined, imagine
from s5wm.worldmodel.model import WorldModel

SMALLEST_WEIGHT = 1e-20
"""Of the last imagined reward in the first return: gradients are divided by it, in float32."""


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """How actor and critic learn from imagination."""

    imagination_horizon: int = 10
    num_imagination_starts: int | None = None  # per update; None takes every replayed state
    gradient: Literal["reinforce", "dynamics"] = "reinforce"
    lambda_: float = 0.95
    entropy: float = 3e-4
    tau: float = 0.02  # step of the slow critic towards the critic, at every update
    slow_weight: float = 1.0  # pull of the critic towards it
    critic_weight: float = 1.0
    replay_critic_weight: float = 0.3
    own_returns: bool = field(
        default=False, metadata={"since": "own returns"}
    )  # an action answers for the return of its own state alone; ``dynamics`` only
    gradient_limit: float | None = (
        None  # largest norm of dJ/da_i in units of the return's scale; ``dynamics`` only
    )

    def __post_init__(self) -> None:
        if self.imagination_horizon < 1:
            raise ValueError(
                f"actor_critic.imagination_horizon is {self.imagination_horizon}; it must be at least 1"
            )
        if self.gradient_limit is not None and not self.gradient_limit > 0.0:
            raise ValueError(
                f"actor_critic.gradient_limit is {self.gradient_limit}; it must be positive: use 0.5, or None for none"
            )
        if self.own_returns and not self.lambda_**self.imagination_horizon > SMALLEST_WEIGHT:
            raise ValueError(
                f"actor_critic.lambda_ is {self.lambda_} and imagination_horizon {self.imagination_horizon}: with "
                f"own_returns, lambda_^horizon must exceed {SMALLEST_WEIGHT:g}; use 0.95, or own_returns=false"
            )
        if self.num_imagination_starts is not None and self.num_imagination_starts < 1:
            raise ValueError(
                f"actor_critic.num_imagination_starts is {self.num_imagination_starts}; use None for all, or at least 1"
            )


class Networks(eqx.Module):
    """Networks of the losses; gradients reach ``actor`` and ``critic`` only."""

    model: WorldModel[Any]
    actor: Actor
    critic: Critic
    slow_critic: Critic


class Rollouts(eqx.Module):
    """``K`` imagined rollouts of ``R = H + 1`` states with the outputs of the heads.

    ``action_gradient`` is ``d sum_j w_j R_j / da_i``, or ``w_i dR_i / da_i``, of each rollout, through the model and
    through all that the policy does after; None where the objective does not need it (``reinforce``).
    """

    feature: Float[Array, "K R F"]
    action: Float[Array, "K R A"]
    noise: Float[Array, "K R A"]  # of the actions, as the actor consumes it
    returns: Float[Array, "K H"]
    value: Float[Array, "K R"]
    weight: Float[Array, "K H"]
    action_gradient: Float[Array, "K H A"] | None


def imagine_rollouts(
    config: ActorCriticConfig, nets: Networks, starts: Belief[Any], *, smoothing_weight: Scalar, key: Key
) -> Rollouts:
    """Imagine from ``K`` beliefs; no network gets a gradient.

    With ``dynamics``, gradients of returns reach the actor's parameters by way of its actions alone, at fixed states.
    The loop over time therefore carries no gradients of parameters: it gives those of actions, and ``actor_loss``
    differentiates the actor once, over all states together.
    """
    k_noise, k_act = jr.split(key)
    nets = jax.lax.stop_gradient(nets)
    dynamics, horizon = nets.model.dynamics, config.imagination_horizon
    count = jax.tree.leaves(starts)[0].shape[0]
    noise = dynamics.space.noise(k_noise, (count, horizon))
    draws = nets.actor.noise(k_act, (count, horizon + 1))

    def rolled(shift: Float[Array, "K R A"]) -> tuple[Scalar, Rollouts]:
        def act(feature: Array, draw: tuple[Array, Array]) -> Array:
            return nets.actor(feature).sample_with(draw[0]) + draw[1]

        imagined = jax.vmap(lambda belief, n, d: imagine(dynamics, belief, act, d, noise=n))(
            starts, noise, (draws, shift)
        )
        rollouts = _judged(config, nets, imagined, draws, smoothing_weight)
        weighted = rollouts.weight * rollouts.returns
        return jnp.sum(weighted[:, 0] if config.own_returns else weighted), rollouts

    unmoved = jnp.zeros_like(draws)
    if config.gradient == "reinforce":
        return rolled(unmoved)[1]
    gradient, rollouts = jax.grad(rolled, has_aux=True)(unmoved)
    gradient = gradient[:, :-1]
    if config.own_returns:
        gradient *= config.lambda_ ** -jnp.arange(horizon)[None, :, None]
    return eqx.tree_at(lambda r: r.action_gradient, rollouts, gradient, is_leaf=lambda leaf: leaf is None)


def _judged(
    config: ActorCriticConfig, nets: Networks, imagined: Imagined, draws: Array, smoothing_weight: Scalar
) -> Rollouts:
    """Outputs of reward, continue and value heads at imagined states, and the returns."""
    # Without the barriers XLA:CPU fuses the backward passes of all heads and recomputes each several times.
    feature = jax.lax.optimization_barrier(imagined.feature)
    said, value = jax.lax.optimization_barrier((nets.model.predict(feature), nets.critic(feature).mean()))
    reward = said.reward(smoothing_weight)
    returns = jax.vmap(lambda *one: _with_choices(*one, lambda_=config.lambda_))(
        reward, said.cont, value, imagined.choice
    )
    weight = jax.lax.stop_gradient(jnp.cumprod(said.cont[:, :-1], axis=1))
    return Rollouts(imagined.feature, imagined.action, draws, returns, value, weight, None)


def _with_choices(
    reward: Float[Array, " R"],
    cont: Float[Array, " R"],
    value: Float[Array, " R"],
    choice: Float[Array, " H"],
    *,
    lambda_: float,
) -> Float[Array, " H"]:
    """Returns of one rollout; their gradient holds the score of the choices (second part, above)."""
    stop_gradient = jax.lax.stop_gradient
    score = choice - stop_gradient(choice)  # zeros with a gradient
    returns = stop_gradient(lambda_return(reward, cont, value, value[-1], lambda_))
    base = stop_gradient(value[:-1])

    def before(x: Array) -> Array:
        return jnp.cumsum(x) - x

    # A choice at k joins the reward of its arrival, so that returns up to k discount it; those after it are reached
    # by way of it.
    arrival = jnp.pad((returns - base) * score, (1, 0))
    later = returns * before(score) - before(base * score)
    return lambda_return(reward + arrival, cont, value, value[-1], lambda_) + later


def _limited(gradient: Float[Array, "K H A"], limit: float | None) -> Float[Array, "K H A"]:
    """Each ``dJ/da_i`` shortened to a norm of ``limit``.

    Their norms are heavy-tailed: without a limit a hundredth of the rollouts decides two thirds of the squared
    gradient, and the others teach next to nothing (docs/lab-notes.md, 13).
    """
    if limit is None:
        return gradient
    norm = jnp.linalg.norm(gradient, axis=-1, keepdims=True)
    return gradient * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))


def actor_loss(
    config: ActorCriticConfig, actor: Actor, rolled: Rollouts, scale: ReturnScale
) -> tuple[Scalar, Metrics]:
    """``-w_i (objective_i + eta entropy_i)``, averaged."""
    stop_gradient = jax.lax.stop_gradient
    dist = actor(stop_gradient(rolled.feature[:, :-1]))
    entropy = dist.entropy()
    advantage = stop_gradient(rolled.returns - rolled.value[:, :-1]) / scale.value
    weighted = stop_gradient(rolled.weight) * config.entropy * entropy
    if rolled.action_gradient is None:
        weighted += (
            stop_gradient(rolled.weight) * dist.log_prob(stop_gradient(rolled.action[:, :-1])) * advantage
        )
    else:
        action = dist.sample_with(stop_gradient(rolled.noise[:, :-1]))
        gradient = _limited(stop_gradient(rolled.action_gradient) / scale.value, config.gradient_limit)
        slope = jnp.sum(gradient * action, axis=-1)
        # The value is the objective's, the gradient that of the slope.
        weighted += stop_gradient(rolled.weight) * advantage + slope - stop_gradient(slope)
    loss = -jnp.mean(weighted)
    metrics = {
        "loss/actor": loss,
        "actor/entropy": entropy.mean(),
        "advantage/abs": jnp.abs(advantage).mean(),
        "return/imagined": rolled.returns.mean(),
        "return/scale": scale.value,
    }
    if isinstance(dist, Normal):
        metrics["actor/std"] = dist.scale.mean()
    return loss, metrics


def _critic_objective(
    config: ActorCriticConfig, dist: TwoHot | UnitNormal, target: Array, slow_value: Array, weight: Array
) -> Scalar:
    error = -dist.log_prob(target) - config.slow_weight * dist.log_prob(slow_value)
    return jnp.mean(weight * error)  # over all states, as officially: not over the sum of weights


def critic_loss(config: ActorCriticConfig, nets: Networks, rolled: Rollouts) -> Scalar:
    """Cross-entropy to the imagined returns and, as a regulariser, to the slow critic."""
    feature = jax.lax.stop_gradient(rolled.feature[:, :-1])
    slow = jax.lax.stop_gradient(nets.slow_critic(feature).mean())
    target = jax.lax.stop_gradient(rolled.returns)
    return _critic_objective(config, nets.critic(feature), target, slow, rolled.weight)


def replay_critic_loss(
    config: ActorCriticConfig,
    nets: Networks,
    feature: Float[Array, "B T F"],
    timestep: TimeStep,
    *,
    bootstrap: Float[Array, "B T"],
    smoothing_weight: Scalar,
) -> tuple[Scalar, Metrics]:
    """The same on real rewards: lambda-returns over the chunk that bootstrap from ``bootstrap`` (a value or an
    imagined return per step); steps with ``is_last`` have no successor and are masked.
    """
    stop_gradient = jax.lax.stop_gradient
    cont = nets.model.discount * (1.0 - timestep.is_terminal.astype(jnp.float32))
    lambdas = config.lambda_ * (1.0 - timestep.is_last.astype(jnp.float32))
    reward = timestep.reward.total(smoothing_weight)
    target = stop_gradient(
        jax.vmap(lambda r, c, v, lam: lambda_return(r, c, v, v[-1], lam))(reward, cont, bootstrap, lambdas)
    )
    valid = 1.0 - timestep.is_last[:, :-1].astype(jnp.float32)
    dist = nets.critic(feature[:, :-1])
    slow = stop_gradient(nets.slow_critic(feature[:, :-1]).mean())
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
