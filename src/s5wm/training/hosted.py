"""Collection from environments outside the program: the host steps them, ``agent.update`` is the same as ever.

An iteration is ``collect``, then ``learn``, one after the other: no row is collected by parameters that are older
than the latest update.  On resumption the learner is bitwise what it was; the environments begin anew, and the
episodes that were under way are cut as truncations.
"""

import functools as ft
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from s5wm.actions import ActionSpec
from s5wm.agents.base import AbstractAgent, AbstractPolicy, MetricSums
from s5wm.envs.host import AbstractHostEnvs, HostEnv, HostRows, Values, timestep_of
from s5wm.training.loop import choose_actions
from s5wm.training.state import NEVER, ActorState, EpisodeSums, Faults, TrainState, following_actor
from s5wm.types import Key, TimeStep, Transition

Result = tuple[TrainState[Any], MetricSums, EpisodeSums]


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
