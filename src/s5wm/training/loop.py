"""The training program: collect, learn, repeat, in one compiled function.

It knows neither which agent nor which environment it runs.
"""

import functools as ft
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from s5wm.agents.base import AbstractAgent, AbstractPolicy, MetricSums
from s5wm.envs.base import AbstractEnv
from s5wm.training.state import (
    ActorState,
    EpisodeSums,
    NonFiniteReport,
    TrainState,
    described_episodes,
    following_actor,
)
from s5wm.types import Key, Transition, without_reserved

Learner = TypeVar("Learner")

Sums = tuple[MetricSums, EpisodeSums]
"""Metrics of each iteration."""


def choose_actions(
    policy: AbstractPolicy[Any, Any], actor: ActorState, key: Key
) -> tuple[Any, Transition[Any]]:
    """Next carries, and transitions ``[N, ...]`` from the present time step of every environment.

    ``key`` is that of one step of a rollout; environments take the other half of it.
    """
    k_policy, _ = jr.split(key)
    now = actor.timestep
    carry, action, extras = jax.vmap(lambda c, o, f, k: policy(c, o, f, key=k))(
        actor.carry, now.obs, now.is_first, jr.split(k_policy, actor.length.shape[0])
    )
    return carry, Transition(now, action, extras)


def unroll(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], actor: ActorState, *, length: int, key: Key
) -> tuple[ActorState, Transition[Any], EpisodeSums]:
    """Collect ``length`` steps of every environment; returns transitions ``[N, T, ...]``."""

    def advance(
        actor: ActorState, at: tuple[Key, Int[Array, ""]]
    ) -> tuple[ActorState, tuple[Transition[Any], EpisodeSums]]:
        key, t = at
        _, k_env = jr.split(key)
        carry, row = choose_actions(policy, actor, key)
        env_state, timestep = jax.vmap(env.step)(
            actor.env_state, env.spec.action.decode(row.action), jr.split(k_env, actor.length.shape[0])
        )
        following = following_actor(actor, env_state, timestep, carry)
        described = without_reserved(jax.vmap(env.episode_metrics)(env_state)) | described_episodes(following)
        sums = EpisodeSums.of(timestep.is_last, described, NonFiniteReport.at(timestep, row.action, t))
        return following, (row, sums)

    steps = (jr.split(key, length), jnp.arange(length, dtype=jnp.int32))
    actor, (rollout, sums) = jax.lax.scan(advance, actor, steps)
    return actor, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rollout), sums.total()


def iterate_many(
    env: AbstractEnv[Any],
    agent: AbstractAgent[Learner, Any, Any],
    state: TrainState[Learner],
    *,
    length: int,
    iterations: int | Int[Array, ""],
) -> tuple[TrainState[Learner], MetricSums, EpisodeSums]:
    """Run ``iterations`` of collect and learn; one program for any number, sums over all."""

    @jax.jit  # so that it is traced once, for its shapes and for itself
    def iterate(
        state: TrainState[Learner], index: Int[Array, ""]
    ) -> tuple[TrainState[Learner], tuple[MetricSums, EpisodeSums]]:
        k_act, k_learn, key = jr.split(state.key, 3)
        actor, rollout, sums = unroll(env, agent.policy(state.learner), state.actor, length=length, key=k_act)
        learner, metrics = agent.update(
            state.learner, rollout, smoothing_weight=state.smoothing_weight, key=k_learn
        )
        following = TrainState(learner, actor, state.smoothing_weight, key, state.iteration + 1)
        before = index * length * actor.length.shape[0]
        return following, (metrics, replace(sums, faults=sums.faults.later(before)))

    def advance(index: Int[Array, ""], carry: tuple[TrainState[Learner], Sums]) -> tuple[Any, Sums]:
        state, sums = carry
        state, more = iterate(state, index)
        stacked = jax.tree.map(lambda *each: jnp.stack(each), sums, more)
        return state, (stacked[0].total(), stacked[1].total())

    first = jnp.zeros((), jnp.int32)
    shapes = jax.eval_shape(iterate, state, first)[1]
    metrics, sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    begin: Sums = (metrics, replace(sums, faults=NonFiniteReport.none()))
    state, (metrics, sums) = jax.lax.fori_loop(
        first, jnp.asarray(iterations, jnp.int32), advance, (state, begin)
    )
    return state, metrics, sums


SHARED_LEAVES = ("learner.replay.head", "learner.replay.filled")
"""Leaves shared over seeds: with a count for each seed, ``cond`` would become ``select``, which runs both sides."""

Results = list[tuple[TrainState[Learner], MetricSums, EpisodeSums]]


def iterate_all(
    env: AbstractEnv[Any],
    agent: AbstractAgent[Learner, Any, Any],
    states: Sequence[TrainState[Learner]],
    *,
    length: int,
    iterations: int | Int[Array, ""],
) -> Results[Learner]:
    """``iterate_many`` of one state, or of several seeds at the same step as one batch."""
    run = ft.partial(iterate_many, env, agent, length=length, iterations=iterations)
    if len(states) == 1:
        return [run(states[0])]

    def axis(path: Any, _: Any) -> int | None:
        return None if jax.tree_util.keystr(path, simple=True, separator=".") in SHARED_LEAVES else 0

    axes = jax.tree_util.tree_map_with_path(axis, states[0])
    stacked = jax.tree.map(
        lambda axis, *each: each[0] if axis is None else jnp.stack(each), axes, *states, is_leaf=_is_none
    )
    state, metrics, sums = jax.vmap(run, in_axes=(axes,), out_axes=(axes, 0, 0))(stacked)

    def of(seed: int) -> tuple[TrainState[Learner], MetricSums, EpisodeSums]:
        own = jax.tree.map(lambda axis, x: x if axis is None else x[seed], axes, state, is_leaf=_is_none)
        return (own, *jax.tree.map(lambda x: x[seed], (metrics, sums)))

    return [of(seed) for seed in range(len(states))]


def _is_none(leaf: Any) -> bool:
    return leaf is None


def compiled(shardings: Any = None) -> Any:
    """``iterate_all`` as one program; a single state is placed by ``shardings`` (a tree, see ``Placement``)."""
    places = None
    if shardings is not None:
        whole = NamedSharding(jax.tree.leaves(shardings)[0].mesh, PartitionSpec())
        places = [(shardings, whole, whole)]
    return jax.jit(
        iterate_all,
        static_argnames="length",
        donate_argnames="states",
        out_shardings=places,
    )


train_all = compiled()
"""``iterate_all`` on the default device."""

train = jax.jit(iterate_many, static_argnames="length", donate_argnames="state")
"""``iterate_many`` on the default device."""
