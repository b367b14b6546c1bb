"""Whole episodes of a policy in environments that the host steps."""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from s5wm.actions import ActionSpec
from s5wm.agents.base import AbstractPolicy
from s5wm.envs.host import AbstractHostEnvs, HostEnv, HostTimeStep, Shown, Values, shown_by, timestep_from
from s5wm.envs.task import Episodes
from s5wm.errors import EnvironmentFailedError
from s5wm.evaluation.rollout import EvalConfig
from s5wm.types import EpisodeMetrics, Key, OptionalMetric, without_reserved

MOST_AT_ONCE = 16
"""Environments that an evaluation steps in parallel."""


@ft.partial(jax.jit, static_argnames=("spec", "sampled"))
def act_to_judge(
    policy: AbstractPolicy[Any, Any], carry: Any, shown: Shown, key: Key, *, spec: ActionSpec, sampled: bool
) -> tuple[Any, Array]:
    """Next carries, and actions in the environment's form: the mode, or samples."""
    latest = timestep_from(shown)
    keys = jr.split(key, latest.is_first.shape[0])
    carry, action, _ = jax.vmap(lambda c, o, f, k: policy(c, o, f, key=k if sampled else None))(
        carry, latest.obs, latest.is_first, keys
    )
    return carry, spec.decode(action)


def run_hosted_episodes(
    env: HostEnv,
    policy: AbstractPolicy[Any, Any],
    plan: EvalConfig,
    key: Key,
    *,
    watch: Callable[[HostTimeStep], None] | None = None,
) -> Episodes:
    """Like ``run_episodes`` for compiled environments; every episode begins with a seed of its own.

    ``watch`` is called with every time step.
    """
    num = min(plan.episodes, MOST_AT_ONCE)
    seed = int(jax.device_get(jr.randint(key, (), 0, 2**30)))
    envs, parts, notices = env.open(num), list[_Part](), list[str]()
    envs.tell = notices.append
    try:
        for begun in range(0, plan.episodes, num):
            parts.append(_run_once(_Runner(envs, policy, plan, env.spec.action, watch), seed + begun, num))
    finally:
        envs.close()

    whole = np.concatenate([part.is_whole for part in parts])[: plan.episodes]
    if not whole.any():
        raise EnvironmentFailedError(
            f"every episode of an evaluation was cut short: {'; '.join(notices)}. Correct the environment "
            "(s5wm check-env)",
            "; ".join(notices),
        )

    def gathered(values: Sequence[Values]) -> Values:
        return np.concatenate(values)[: plan.episodes][whole]

    blank = np.full(num, np.nan)
    names = without_reserved(dict.fromkeys(name for part in parts for name in part.metrics))
    described = {name: gathered([part.metrics.get(name, blank) for part in parts]) for name in names}
    metrics: EpisodeMetrics = {
        name: OptionalMetric(jnp.asarray(values, jnp.float32), jnp.asarray(np.isfinite(values)))
        for name, values in described.items()
    }
    return Episodes(
        final=None,
        return_nominal=gathered([part.returns for part in parts]).astype(np.float32),
        return_smoothing=None,
        steps=gathered([part.steps for part in parts]).astype(np.int32),
        is_terminal=gathered([part.is_terminal for part in parts]).astype(bool),
        metrics=metrics,
        recording=None,
        notices=tuple(notices),
    )


class _Part(NamedTuple):
    """One episode of each environment."""

    returns: Values
    steps: Values
    is_terminal: Values
    is_whole: Values  # the environment did not fail in it
    metrics: dict[str, Values]


class _Runner(NamedTuple):
    envs: AbstractHostEnvs
    policy: AbstractPolicy[Any, Any]
    plan: EvalConfig
    action: ActionSpec
    watch: Callable[[HostTimeStep], None] | None


def _run_once(runner: _Runner, seed: int, num: int) -> _Part:
    envs, policy, plan, spec, watch = runner
    latest = envs.reset(seed)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), policy.initial())
    total, steps, running = np.zeros(num), np.zeros(num, int), np.ones(num, bool)
    terminal, whole, metrics = np.zeros(num, bool), np.ones(num, bool), dict[str, Values]()
    for t in range(plan.max_steps):
        if watch is not None:
            watch(latest)
        key = jr.fold_in(jr.key(seed), t)
        carry, action = act_to_judge(policy, carry, shown_by(latest), key, spec=spec, sampled=plan.sampled)
        latest = envs.step(np.asarray(action))
        whole &= ~(running & latest.cut)  # what is left of an episode says nothing of the policy
        running &= ~latest.cut
        total += np.where(running, latest.reward, 0.0)
        steps += running
        ends = running & latest.is_last
        terminal |= ends & latest.is_terminal
        _keep(metrics, latest.metrics, ends)
        running &= ~ends
        if not running.any():
            break
    return _Part(total, steps, terminal, whole, metrics)


def _keep(kept: dict[str, Values], metrics: Mapping[str, Values], where: Values) -> None:
    for name, values in metrics.items():
        kept[name] = np.where(where, values, kept.get(name, np.full(len(where), np.nan)))
