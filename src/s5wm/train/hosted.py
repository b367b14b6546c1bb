"""Collection from environments outside the program: the host steps them, ``agent.update`` is the same as ever.

An iteration is ``collect``, then ``learn``, one after the other: no row is collected by parameters that are older
than the latest update.  On resumption the learner is bitwise what it was; the environments begin anew, and the
episodes that were under way are cut as truncations.
"""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from s5wm.actions import ActionSpec
from s5wm.agents.base import AbstractAgent, AbstractPolicy, MetricSums
from s5wm.envs.host import AbstractHostEnvs, HostEnv, HostRows, Values
from s5wm.envs.task import Episodes
from s5wm.train.evaluate import EvalPlan
from s5wm.train.loop import choose_actions
from s5wm.train.state import NEVER, ActorState, EpisodeSums, Faults, TrainState, following_actor
from s5wm.types import EpisodeMetrics, Key, OptionalMetric, Reward, TimeStep, Transition

Result = tuple[TrainState[Any], MetricSums, EpisodeSums]


def timestep_of(rows: HostRows) -> TimeStep:
    """The same, as agents know it."""
    return TimeStep(
        obs=jnp.asarray(rows.obs),
        privileged=None,
        reward=Reward(jnp.asarray(rows.reward, jnp.float32)),
        is_first=jnp.asarray(rows.is_first, bool),
        is_last=jnp.asarray(rows.is_last, bool),
        is_terminal=jnp.asarray(rows.is_terminal, bool),
    )


@ft.partial(jax.jit, static_argnames="spec", donate_argnames="rollout")
def _act(
    policy: AbstractPolicy[Any, Any],
    actor: ActorState,
    rollout: Transition[Any],
    t: Int[Array, ""],
    keys: Array,
    *,
    spec: ActionSpec,
) -> tuple[Any, Transition[Any], Array, Array]:
    """Choose actions at the present time steps and write both into row ``t`` of the rollout ``[N, T, ...]``.

    ``keys`` are those of ``unroll``, one for each row, so that both collectors give the same rows.
    Gives the agent's vectors ``[N, A]`` and what they mean to the environment, too.
    """
    carry, now = choose_actions(policy, actor, keys[t])
    rollout = jax.tree.map(lambda rows, row: rows.at[:, t].set(row), rollout, now)
    return carry, rollout, now.action, spec.decode(now.action)


@jax.jit
def _follow(actor: ActorState, timestep: TimeStep, carry: Any) -> ActorState:
    return following_actor(actor, None, timestep, carry)


@ft.partial(jax.jit, donate_argnames="state")
def _learn(
    agent: AbstractAgent[Any, Any, Any],
    state: TrainState[Any],
    rollout: Transition[Any],
    key: Key,
    following: Key,
) -> tuple[TrainState[Any], MetricSums]:
    learner, metrics = agent.update(state.learner, rollout, smoothing_weight=state.smoothing_weight, key=key)
    return TrainState(learner, state.actor, state.smoothing_weight, following, state.iteration + 1), metrics


class HostedChunk:
    """Moves one training by iterations of collection and learning; what ``fit`` calls in place of the program."""

    def __init__(
        self, env: HostEnv, agent: AbstractAgent[Any, Any, Any], *, num_envs: int, length: int, seed: int
    ) -> None:
        self._env, self._agent = env, agent
        self._num_envs, self._length, self._seed = num_envs, length, seed
        self._envs: AbstractHostEnvs | None = None
        self._iteration = -1  # at which the living episodes stand
        self._is_cut = False  # the next step begins new episodes

    def __call__(self, states: Sequence[TrainState[Any]], iterations: int) -> list[Result]:
        """The state after so many iterations; sums are over all of them."""
        (state,) = states
        if int(state.iteration) != self._iteration:
            state = self._begin(state)
        totals = _EpisodeTotals()
        learned: list[MetricSums] = []
        for index in range(iterations):
            k_act, k_learn, key = jr.split(state.key, 3)
            actor, rollout = self._collect(state, k_act, totals, index * self._length)
            state = TrainState(state.learner, actor, state.smoothing_weight, state.key, state.iteration)
            state, metrics = _learn(self._agent, state, rollout, k_learn, key)
            learned.append(metrics)
        self._iteration = int(state.iteration)
        total = jax.tree.map(lambda *each: jnp.stack(each).sum(0), *learned)
        return [(state, total, totals.sums())]

    def close(self) -> None:
        """End the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None

    def _begin(self, state: TrainState[Any]) -> TrainState[Any]:
        """The first episodes of a training; of one that goes on, cut those that were under way."""
        iteration = int(state.iteration)
        if self._envs is None:
            self._envs = self._env.open(self._num_envs)
        actor = state.actor
        if iteration == 0:
            rows = self._envs.reset(_seed_of(self._seed, iteration))
            timestep = timestep_of(rows)
            self._is_cut = False
        else:
            timestep = replace(actor.timestep, is_last=jnp.ones_like(actor.timestep.is_last))
            self._is_cut = True
        return TrainState(
            state.learner,
            replace(actor, timestep=timestep),
            state.smoothing_weight,
            state.key,
            state.iteration,
        )

    def _collect(
        self, state: TrainState[Any], key: Key, totals: "_EpisodeTotals", before: int
    ) -> tuple[ActorState, Transition[Any]]:
        """``length`` steps of every environment; ``before`` of this chunk were taken already."""
        assert self._envs is not None, "begin comes first"
        policy, actor = self._agent.policy(state.learner), state.actor
        rollout, keys = _blank(policy, actor, self._length), jr.split(key, self._length)
        for t in range(self._length):
            carry, rollout, chosen, action = _act(
                policy, actor, rollout, np.int32(t), keys, spec=self._env.spec.action
            )
            given = np.asarray(action)
            if self._is_cut:
                rows = self._envs.reset(_seed_of(self._seed, int(state.iteration)))
                self._is_cut = False
            else:
                rows = self._envs.step(given)
            actor = _follow(actor, timestep_of(rows), carry)
            totals.add(rows, actor, np.asarray(chosen), before + t)  # decoding hides what is not finite
        return actor, rollout


@ft.partial(jax.jit, static_argnames="length")
def _blank(policy: AbstractPolicy[Any, Any], actor: ActorState, length: int) -> Transition[Any]:
    """Zeros of the shape of a rollout."""

    def act(carry: Any, now: TimeStep) -> Transition[Any]:
        _, action, extras = policy(carry, now.obs, now.is_first, key=None)
        return Transition(now, action, extras)

    rows = jax.eval_shape(jax.vmap(act), actor.carry, actor.timestep)
    return jax.tree.map(lambda x: jnp.zeros((x.shape[0], length, *x.shape[1:]), x.dtype), rows)


class _EpisodeTotals:
    """Sums over the episodes that ended, and the first faults of a chunk."""

    def __init__(self) -> None:
        self._count = 0
        self._values: dict[str, list[float]] = {}
        self._faults = {"observation": NEVER, "reward": NEVER, "action": NEVER}

    def add(self, rows: HostRows, actor: ActorState, action: Values, t: int) -> None:
        """One step of every environment."""
        for name, values in (("observation", rows.obs), ("reward", rows.reward), ("action", action)):
            if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
                wrong = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
                self._faults[name] = min(self._faults[name], t * len(values) + wrong)
        if not rows.is_last.any():
            return
        ended = np.asarray(rows.is_last)
        self._count += int(ended.sum())
        described = {"return_nominal": actor.return_nominal, "length": actor.length} | dict(rows.metrics)
        for name, values in described.items():
            known = np.asarray(values, float)[ended]
            self._values.setdefault(name, []).extend(known[np.isfinite(known)].tolist())

    def sums(self) -> EpisodeSums:
        """Sums of the chunk."""
        return EpisodeSums(
            count=jnp.float32(self._count),
            metrics={name: jnp.float32(sum(values)) for name, values in self._values.items()},
            counts={name: jnp.float32(len(values)) for name, values in self._values.items()},
            faults=Faults(**{name: jnp.int32(first) for name, first in self._faults.items()}),
        )


def _seed_of(seed: int, iteration: int) -> int:
    """Of the episodes that begin at an iteration, below 2^31."""
    return int(np.random.SeedSequence([seed, iteration]).generate_state(1)[0] >> 1)


MOST_AT_ONCE = 16
"""Copies that an evaluation steps side by side."""


@ft.partial(jax.jit, static_argnames=("spec", "sampled"))
def _act_to_judge(
    policy: AbstractPolicy[Any, Any], carry: Any, rows: TimeStep, key: Key, *, spec: ActionSpec, sampled: bool
) -> tuple[Any, Array]:
    keys = jr.split(key, rows.is_first.shape[0])
    carry, action, _ = jax.vmap(lambda c, o, f, k: policy(c, o, f, key=k if sampled else None))(
        carry, rows.obs, rows.is_first, keys
    )
    return carry, spec.decode(action)


def run_hosted_episodes(
    env: HostEnv,
    policy: AbstractPolicy[Any, Any],
    plan: EvalPlan,
    key: Key,
    *,
    watch: Callable[[HostRows], None] | None = None,
) -> Episodes:
    """What ``run_episodes`` is of compiled environments; every episode begins with a seed of its own.

    ``watch`` is shown the rows of every step.
    """
    num = min(plan.episodes, MOST_AT_ONCE)
    seed = int(jax.device_get(jr.randint(key, (), 0, 2**30)))
    envs, parts = env.open(num), list[dict[str, Values]]()
    try:
        for begun in range(0, plan.episodes, num):
            parts.append(_run_once(_Runner(envs, policy, plan, env.spec.action, watch), seed + begun, num))
    finally:
        envs.close()
    names = dict.fromkeys(name for part in parts for name in part)
    blank = np.full(num, np.nan)
    whole = {
        name: np.concatenate([part.get(name, blank) for part in parts])[: plan.episodes] for name in names
    }
    metrics: EpisodeMetrics = {
        name: OptionalMetric(jnp.asarray(values, jnp.float32), jnp.asarray(np.isfinite(values)))
        for name, values in whole.items()
        if name not in _OURS
    }
    return Episodes(
        final=None,
        return_nominal=whole["return"].astype(np.float32),
        return_smoothing=None,
        steps=whole["steps"].astype(np.int32),
        is_terminal=whole["terminal"].astype(bool),
        metrics=metrics,
        recording=None,
    )


_OURS = ("return", "steps", "terminal")


class _Runner(NamedTuple):
    envs: AbstractHostEnvs
    policy: AbstractPolicy[Any, Any]
    plan: EvalPlan
    action: ActionSpec
    watch: Callable[[HostRows], None] | None


def _run_once(runner: _Runner, seed: int, num: int) -> dict[str, Values]:
    """One episode of each copy."""
    envs, policy, plan, spec, watch = runner
    rows = envs.reset(seed)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), policy.initial())
    total, steps, running = np.zeros(num), np.zeros(num, int), np.ones(num, bool)
    terminal, metrics = np.zeros(num, bool), dict[str, Values]()
    for t in range(plan.max_steps):
        if watch is not None:
            watch(rows)
        key = jr.fold_in(jr.key(seed), t)
        carry, action = _act_to_judge(policy, carry, timestep_of(rows), key, spec=spec, sampled=plan.sampled)
        rows = envs.step(np.asarray(action))
        total += np.where(running, rows.reward, 0.0)
        steps += running
        ends = running & rows.is_last
        terminal |= ends & rows.is_terminal
        _keep(metrics, rows.metrics, ends)
        running &= ~ends
        if not running.any():
            break
    return {"return": total, "steps": steps, "terminal": terminal, **metrics}


def _keep(kept: dict[str, Values], metrics: Mapping[str, Values], where: Values) -> None:
    for name, values in metrics.items():
        kept[name] = np.where(where, values, kept.get(name, np.full(len(where), np.nan)))
