"""All that training carries from one iteration to the next."""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from s5wm.agents.base import AbstractAgent, AbstractPolicy
from s5wm.envs.base import AbstractEnv
from s5wm.types import Key, Metrics, Scalar, TimeStep

Learner = TypeVar("Learner")


class ActorState(eqx.Module):
    """``N`` environments, what they last showed, and what the policy remembers of them."""

    env_state: Any  # [N, ...]
    timestep: TimeStep  # [N, ...]
    carry: Any  # [N, ...]
    return_nominal: Float[Array, " N"]  # of the running episodes
    return_smoothing: Float[Array, " N"]
    length: Int[Array, " N"]


class TrainState(eqx.Module, Generic[Learner]):
    """A fixed point of ``train`` in structure, shape and dtype; saved whole, so that resuming is exact."""

    learner: Learner
    actor: ActorState
    smoothing_weight: Scalar
    key: Key
    iteration: Int[Array, ""]


class EpisodeSums(eqx.Module):
    """Sums over the episodes that ended in a rollout; divide by ``count``."""

    count: Scalar
    metrics: Metrics


def init_actor(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], num_envs: int, *, key: Key
) -> ActorState:
    """Reset ``num_envs`` copies."""
    env_state, timestep = jax.vmap(env.reset)(jr.split(key, num_envs))
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs, *x.shape)), policy.initial())
    zeros = jnp.zeros(num_envs)
    return ActorState(env_state, timestep, carry, zeros, zeros, jnp.zeros(num_envs, jnp.int32))


def init_train(
    env: AbstractEnv[Any], agent: AbstractAgent[Learner, Any, Any], num_envs: int, seed: int
) -> TrainState[Learner]:
    """The state before the first iteration; jitted, so that no two leaves share a buffer (donation)."""

    @jax.jit
    def build(key: Key) -> TrainState[Learner]:
        k_agent, k_actor, k_train = jr.split(key, 3)
        learner = agent.init(k_agent)
        actor = init_actor(env, agent.policy(learner), num_envs, key=k_actor)
        weight, iteration = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return TrainState(learner, actor, weight, k_train, iteration)

    return build(jr.key(seed))
