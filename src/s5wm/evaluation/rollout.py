"""Whole episodes of a policy in one compiled program."""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from s5wm.actions import Box
from s5wm.agents.base import AbstractPolicy
from s5wm.envs.base import AbstractEnv
from s5wm.envs.task import Episodes, Recording
from s5wm.types import Key, TimeStep, without_reserved


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What to run and to record; hashable, because it is part of the compiled program."""

    episodes: int
    max_steps: int  # an episode that lasts longer is cut
    recorded: int  # the first so many episodes are recorded step by step
    snapshot: Callable[[Any], Any]  # what to record of a state of the environment
    sampled: bool = False  # actions are drawn from the policy, as in training, instead of its mode


class _Progress(eqx.Module):
    t: Int[Array, ""]
    env_state: Any
    timestep: TimeStep
    carry: Any
    totals: tuple[
        Float[Array, " K"], Float[Array, " K"] | None, Int[Array, " K"]
    ]  # nominal, smoothing, steps
    recording: Recording


@ft.partial(jax.jit, static_argnames=("plan",))
def run_episodes(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], plan: EvalConfig, key: Key
) -> Episodes:
    """Run ``plan.episodes`` episodes, each from a reset of its own.

    The environment is a plain one, without ``AutoReset``.  Stops as soon as every episode has ended.
    """
    k_reset, k_step = jr.split(key)
    env_state, timestep = jax.vmap(env.reset)(jr.split(k_reset, plan.episodes))
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (plan.episodes, *x.shape)), policy.initial())
    zeros = jnp.zeros(plan.episodes)
    begin = _Progress(
        jnp.zeros((), jnp.int32),
        env_state,
        timestep,
        carry,
        (zeros, zeros if env.spec.has_smoothing else None, jnp.zeros(plan.episodes, jnp.int32)),
        _blank(plan, env_state, env.spec.action_size),
    )

    def is_flying(now: _Progress) -> Bool[Array, ""]:
        return (now.t < plan.max_steps) & ~jnp.all(now.timestep.is_last)

    end = jax.lax.while_loop(is_flying, ft.partial(_advance, env, policy, plan, k_step), begin)
    nominal, smoothing, steps = end.totals
    last_row = _record(end.recording.snapshot, jax.vmap(plan.snapshot)(_head(plan, end.env_state)), end.t)
    return Episodes(
        final=end.env_state,
        return_nominal=nominal,
        return_smoothing=smoothing,
        steps=steps,
        is_terminal=end.timestep.is_terminal,
        metrics=without_reserved(jax.vmap(env.episode_metrics)(end.env_state)),
        recording=Recording(last_row, end.recording.action),
    )


def _advance(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], plan: EvalConfig, key: Key, now: _Progress
) -> _Progress:
    k_env, k_policy = jr.split(jr.fold_in(key, now.t))
    keys = jr.split(k_env, plan.episodes)

    def act(carry: Any, timestep: TimeStep, key: Key) -> tuple[Any, Array]:
        return policy(carry, timestep.obs, timestep.is_first, key=key if plan.sampled else None)[:2]

    carry, action = jax.vmap(act)(now.carry, now.timestep, jr.split(k_policy, plan.episodes))
    stepped, timestep = jax.vmap(env.step)(now.env_state, env.spec.action.decode(action), keys)
    flying = ~now.timestep.is_last
    # A finished episode stays as it ended.
    env_state, timestep = _select(flying, (stepped, timestep), (now.env_state, now.timestep))
    nominal, smoothing, steps = now.totals
    recording = Recording(
        _record(now.recording.snapshot, jax.vmap(plan.snapshot)(_head(plan, now.env_state)), now.t),
        _record(now.recording.action, _written(env, _head(plan, action)), now.t),
    )
    second = timestep.reward.smoothing
    if smoothing is not None and second is not None:
        smoothing = smoothing + jnp.where(flying, second, 0.0)
    totals = (nominal + jnp.where(flying, timestep.reward.nominal, 0.0), smoothing, steps + flying)
    return _Progress(now.t + 1, env_state, timestep, carry, totals, recording)


def _written(env: AbstractEnv[Any], action: Float[Array, "R A"]) -> Float[Array, "R A"]:
    """Continuous actions as the environment gets them; one-hots unchanged."""
    spec = env.spec.action
    return spec.decode(action).reshape(action.shape) if isinstance(spec, Box) else action


def _blank(plan: EvalConfig, env_state: Any, action_size: int) -> Recording:
    shapes = jax.eval_shape(jax.vmap(plan.snapshot), _head(plan, env_state))
    rows = jax.tree.map(lambda x: jnp.zeros((x.shape[0], plan.max_steps + 1, *x.shape[1:]), x.dtype), shapes)
    return Recording(rows, jnp.zeros((plan.recorded, plan.max_steps, action_size)))


def _head(plan: EvalConfig, tree: Any) -> Any:
    return jax.tree.map(lambda x: x[: plan.recorded], tree)


def _record(rows: Any, row: Any, t: Int[Array, ""]) -> Any:
    return jax.tree.map(lambda ring, new: ring.at[:, t].set(new), rows, row)


def _select(condition: Bool[Array, " K"], on_true: Any, on_false: Any) -> Any:
    def select(new: Array, old: Array) -> Array:
        return jnp.where(condition.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(select, on_true, on_false)
