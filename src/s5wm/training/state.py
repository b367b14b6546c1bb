"""Training state: everything that is carried from one iteration to the next."""

import functools as ft
import math
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Shaped

from s5wm.agents.base import AbstractAgent, AbstractPolicy
from s5wm.envs.base import AbstractEnv
from s5wm.errors import ConfigError
from s5wm.types import EpisodeMetrics, Key, Metrics, OptionalMetric, Scalar, TimeStep

Learner = TypeVar("Learner")


class ActorState(eqx.Module):
    """``N`` environments: states, latest time steps, and carries of the policy."""

    env_state: Any  # [N, ...]
    timestep: TimeStep  # [N, ...]
    carry: Any  # [N, ...]
    return_nominal: Float[Array, " N"]  # of the running episodes
    return_smoothing: Float[Array, " N"] | None  # None: there is one reward
    length: Int[Array, " N"]


class TrainState(eqx.Module, Generic[Learner]):
    """A fixed point of ``train`` in structure, shape and dtype; saved whole, so that resuming is exact."""

    learner: Learner
    actor: ActorState
    smoothing_weight: Scalar
    key: Key
    iteration: Int[Array, ""]


NEVER = 2**31 - 1


class NonFiniteReport(eqx.Module):
    """First non-finite observation, reward and action: ``step * N + environment``.

    ``NEVER`` where it always was.  The steps are those of one call of the training program.
    """

    observation: Int[Array, "*b"]
    reward: Int[Array, "*b"]
    action: Int[Array, "*b"]

    @classmethod
    def none(cls) -> "NonFiniteReport":
        """All finite."""
        never = jnp.full((), NEVER, jnp.int32)
        return cls(never, never, never)

    @classmethod
    def at(cls, timestep: TimeStep, action: Float[Array, "N A"], step: Int[Array, ""]) -> "NonFiniteReport":
        """Report of one step of ``N`` environments."""
        reward = timestep.reward.total(1.0)
        observation = jnp.stack([_first(part, step) for part in jax.tree.leaves(timestep.obs)]).min()
        return cls(observation, _first(reward, step), _first(action, step))

    def first(self) -> "NonFiniteReport":
        """The earliest along the leading axis."""
        return jax.tree.map(lambda x: x.min(0), self)

    def later(self, steps: Int[Array, ""]) -> "NonFiniteReport":
        """The same with all step counts shifted by so many steps (times ``N``)."""
        return jax.tree.map(lambda x: jnp.where(x == NEVER, NEVER, x + steps), self)


class EpisodeSums(eqx.Module):
    """Sums over the episodes that ended in a rollout, and non-finite values of all its steps.

    A mean is an entry of ``metrics`` divided by that of ``counts``, the number of episodes that have the metric.
    """

    count: Scalar
    metrics: Metrics
    counts: Metrics
    faults: NonFiniteReport

    @classmethod
    def of(
        cls, ended: Bool[Array, " N"], described: EpisodeMetrics, faults: NonFiniteReport
    ) -> "EpisodeSums":
        """Sums of one step of ``N`` environments; ``ended`` selects episodes, described by these metrics."""
        for name, metric in described.items():
            if wrong := [part.shape[1:] for part in jax.tree.leaves(metric) if part.shape != ended.shape]:
                raise ConfigError(
                    f"the metric {name} of an episode has shape {wrong[0]}: give one number (episode_metrics of the "
                    "environment)"
                )
        known = {name: _optional(metric) for name, metric in described.items()}
        has = {name: ended & metric.exists for name, metric in known.items()}
        return cls(
            count=_count(ended),
            metrics={name: jnp.where(has[name], metric.value, 0.0).sum() for name, metric in known.items()},
            counts={name: _count(here) for name, here in has.items()},
            faults=faults,
        )

    def total(self) -> "EpisodeSums":
        """Over the leading axis."""
        count, metrics, counts = jax.tree.map(lambda x: x.sum(0), (self.count, self.metrics, self.counts))
        return EpisodeSums(count, metrics, counts, self.faults.first())


def _optional(metric: Float[Array, " N"] | OptionalMetric) -> OptionalMetric:
    if isinstance(metric, OptionalMetric):
        return metric
    return OptionalMetric(metric, jnp.ones_like(metric, bool))


def _count(flags: Bool[Array, " N"]) -> Scalar:
    return flags.astype(jnp.float32).sum()


def _first(values: Shaped[Array, "N ..."], step: Int[Array, ""]) -> Int[Array, ""]:
    count = values.shape[0]
    wrong = ~jnp.isfinite(values.reshape(count, -1)).all(axis=1)
    return jnp.where(wrong.any(), step * count + jnp.argmax(wrong), NEVER).astype(jnp.int32)


def init_actor(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], num_envs: int, *, key: Key
) -> ActorState:
    """Reset ``num_envs`` environments; raises ``ConfigError`` for observations that are not those of the spec."""
    env_state, timestep = jax.vmap(env.reset)(jr.split(key, num_envs))
    _check_obs(timestep.obs, env.spec.zero_obs(num_envs))
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs, *x.shape)), policy.initial())
    zeros = jnp.zeros(num_envs)
    smoothing = None if timestep.reward.smoothing is None else zeros
    return ActorState(env_state, timestep, carry, zeros, smoothing, jnp.zeros(num_envs, jnp.int32))


def _check_obs(shown: Any, declared: Any) -> None:
    found, meant = (
        " and ".join(f"{part.dtype}{list(part.shape[1:])}" for part in jax.tree.leaves(obs))
        for obs in (shown, declared)
    )
    if found != meant:
        raise ConfigError(f"the environment shows {found}, and its spec says {meant}: correct one of them")


def following_actor(actor: ActorState, env_state: Any, timestep: TimeStep, carry: Any) -> ActorState:
    """After one more step of every environment.

    The step that follows an episode's last one is a reset: it starts the sums of the next episode.
    """
    alive, reward = ~actor.timestep.is_last, timestep.reward
    smoothing = None
    if reward.smoothing is not None and actor.return_smoothing is not None:
        smoothing = jnp.where(alive, actor.return_smoothing, 0.0) + reward.smoothing
    return ActorState(
        env_state,
        timestep,
        carry,
        jnp.where(alive, actor.return_nominal, 0.0) + reward.nominal,
        smoothing,
        jnp.where(alive, actor.length, 0) + alive.astype(jnp.int32),
    )


def described_episodes(actor: ActorState) -> EpisodeMetrics:
    """Metrics of every running episode that do not depend on the environment."""
    described: EpisodeMetrics = {
        "return_nominal": actor.return_nominal,
        "length": actor.length.astype(jnp.float32),
    }
    if actor.return_smoothing is not None:
        described["return_smoothing"] = actor.return_smoothing
    return described


def init_train(
    env: AbstractEnv[Any],
    agent: AbstractAgent[Learner, Any, Any],
    num_envs: int,
    seed: int,
    *,
    shardings: Any = None,
) -> TrainState[Learner]:
    """The state before the first iteration; jitted, so that no two leaves share a buffer (donation).

    ``shardings`` (a tree, see ``Placement``) place its arrays; None: on the default device.
    """

    @ft.partial(jax.jit, out_shardings=shardings)
    def build(key: Key) -> TrainState[Learner]:
        k_agent, k_actor, k_train = jr.split(key, 3)
        learner = agent.init(k_agent)
        actor = init_actor(env, agent.policy(learner), num_envs, key=k_actor)
        weight, iteration = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return jax.tree.map(_strong, TrainState(learner, actor, weight, k_train, iteration))

    return build(jr.key(seed))


def _strong(x: Array) -> Array:
    # A checkpoint does not keep a weak type (that of ``jnp.full(n, 1.0)``): resuming would compile a different program.
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)


def episode_means(sums: EpisodeSums) -> dict[str, float]:
    """Means over the episodes that ended and have the metric; a metric that none has is left out."""
    sums = jax.device_get(sums)
    means = {
        f"episode/{name}": float(total) / float(sums.counts[name])
        for name, total in sums.metrics.items()
        if sums.counts[name] > 0
    }
    return {"episode/count": float(sums.count)} | {k: v for k, v in means.items() if math.isfinite(v)}
