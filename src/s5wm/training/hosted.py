"""Collection from environments outside of the program: the host steps them, ``agent.update`` is unchanged.

An iteration is ``collect``, then ``learn``, one after the other: no step is collected by parameters that are older
than the latest update.  With ``HostEnv.overlap`` the device learns from the rollout of before while the host collects
the next one, by parameters that are one iteration older; no further ahead, so that the train ratio is kept, and every
chunk ends with all its rollouts learned from.

On resumption the learner is bitwise what it was; the environments begin anew, and the episodes that were under way are
cut as truncations, as are those of environments that fail.
"""

import functools as ft
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from s5wm.actions import ActionSpec
from s5wm.agents.base import AbstractAgent, AbstractPolicy, MetricSums
from s5wm.envs.host import (
    AbstractHostEnvs,
    HostEnv,
    HostTimeStep,
    Shown,
    Values,
    shown_by,
    timestep_from,
    timestep_of,
)
from s5wm.errors import EnvironmentFailedError
from s5wm.training.learning import Contexts, Learning
from s5wm.training.loop import choose_actions
from s5wm.training.state import (
    NEVER,
    ActorState,
    EpisodeSums,
    NonFiniteReport,
    TrainState,
    following_actor,
    init_actor,
)
from s5wm.types import Key, TimeStep, Transition, without_reserved

Result = tuple[TrainState[Any], MetricSums, EpisodeSums]


class _Arrival(NamedTuple):
    """What is known after a step of every environment."""

    actor: ActorState  # of before the step
    carry: Any  # what the policy remembers after choosing the step's actions
    shown: Shown

    def taken_in(self) -> ActorState:
        """The actor after the step."""
        return following_actor(self.actor, None, timestep_from(self.shown), self.carry)


@ft.partial(jax.jit, static_argnames="spec", donate_argnames="rollout")
def _act(
    policy: AbstractPolicy[Any, Any],
    arrival: _Arrival,
    rollout: Transition[Any],
    t: Int[Array, ""],
    keys: Array,
    *,
    spec: ActionSpec,
) -> tuple[ActorState, Any, Transition[Any], Array, Array]:
    """Take in what arrived at index ``t``, choose actions there, and write both into the rollout ``[N, T, ...]``.

    At index 0 the actor has taken it in already.  One call does both: on a fast environment, calls are what collection
    costs.  ``keys`` are those of ``unroll``, one for each time step, so that both collectors give the same rollout.
    Returns the actor at index ``t``, the carries that follow, the rollout, the agent's vectors ``[N, A]`` and the
    environment's actions.
    """
    actor = jax.tree.map(lambda now, after: jnp.where(t == 0, now, after), arrival.actor, arrival.taken_in())
    carry, now = choose_actions(policy, actor, keys[t])
    rollout = jax.tree.map(lambda stored, new: stored.at[:, t].set(new), rollout, now)
    return actor, carry, rollout, now.action, spec.decode(now.action)


@jax.jit
def _take_in(arrival: _Arrival) -> ActorState:
    return arrival.taken_in()


@ft.partial(jax.jit, donate_argnames="rollout")
def _cut(rollout: Transition[Any], actor: ActorState, t: Array, cut: Array) -> tuple[Any, ActorState]:
    """Truncate the episodes of some environments at index ``t``."""
    is_last = actor.timestep.is_last | cut
    rollout = eqx.tree_at(
        lambda r: r.timestep.is_last, rollout, rollout.timestep.is_last.at[:, t].set(is_last)
    )
    return rollout, eqx.tree_at(lambda a: a.timestep.is_last, actor, is_last)


class HostedChunk:
    """Advances one training by iterations of collection and learning; ``fit`` calls it in place of the program."""

    def __init__(
        self, env: HostEnv, agent: AbstractAgent[Any, Any, Any], *, num_envs: int, length: int, seed: int
    ) -> None:
        self._env, self._agent = env, agent
        self._num_envs, self._length, self._seed = num_envs, length, seed
        self._envs: AbstractHostEnvs | None = None
        self._iteration = -1  # at which the living episodes stand
        self._began = 0  # at which they began
        self._is_cut = False  # the next step begins new episodes
        self._failure: EnvironmentFailedError | None = None
        self._thread = ThreadPoolExecutor(1, "learning") if env.overlap else None
        self.collecting: Contexts = itertools.repeat(nullcontext())
        """One is entered for each rollout."""
        self.updating: Contexts = itertools.repeat(nullcontext())
        """One is entered for each update; the first one compiles."""
        self.tell: Callable[[str], None] = lambda _: None
        """Called at once with every notice of the environments."""
        self.done = 0
        """Iterations of the latest call; fewer than requested if the environments failed for good."""

    def __call__(self, states: Sequence[TrainState[Any]], iterations: int) -> list[Result]:
        """The state after so many iterations; sums are over all of them.

        Where environments fail for good after the first iteration, the state is that after the last whole one, and
        the next call raises ``EnvironmentFailedError``.
        """
        if self._failure is not None:
            raise self._failure
        (state,) = states
        if int(state.iteration) != self._iteration:
            state = self._begin(state)
        totals, actor, key = _EpisodeTotals(), state.actor, state.key
        learning = Learning(self._agent, state.learner, state.smoothing_weight, self._thread, self.updating)
        self.done = 0
        for index in range(iterations):
            k_act, k_learn, following = jr.split(key, 3)
            policy = learning.policy()
            learning.begin()
            try:
                with next(self.collecting):
                    after, rollout = self._collect(policy, actor, k_act, totals, index * self._length)
            except EnvironmentFailedError as error:
                if index == 0:
                    raise
                self._failure = error
                break
            actor, key, self.done = after, following, index + 1
            learning.take(rollout, k_learn)
        learning.begin()
        iteration = state.iteration + self.done
        self._iteration = int(iteration)
        state = TrainState(learning.settled(), actor, state.smoothing_weight, key, iteration)
        return [(state, learning.total(), totals.sums())]

    def close(self) -> None:
        """Close the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None
        if self._thread is not None:
            self._thread.shutdown()

    def _begin(self, state: TrainState[Any]) -> TrainState[Any]:
        """Start the first episodes; on resume also truncate those that were running."""
        iteration = self._began = int(state.iteration)
        if self._envs is None:
            self._envs = self._env.open(self._num_envs)
            self._envs.tell = self.tell
        actor = state.actor
        if iteration == 0:
            latest = self._envs.reset(_seed_of(self._seed, iteration))
            timestep = timestep_of(latest)
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
        self,
        policy: AbstractPolicy[Any, Any],
        actor: ActorState,
        key: Key,
        totals: "_EpisodeTotals",
        before: int,
    ) -> tuple[ActorState, Transition[Any]]:
        """``length`` steps of every environment; ``before`` of this chunk were taken already."""
        assert self._envs is not None, "begin comes first"
        envs = self._envs

        def step(action: Values) -> HostTimeStep:
            if not self._is_cut:
                return envs.step(action)
            self._is_cut = False
            return envs.reset(_seed_of(self._seed, self._began))

        def seen(latest: HostTimeStep, actor: ActorState, chosen: Values, t: int) -> None:
            totals.add(latest, actor, chosen, before + t)

        keys = jr.split(key, self._length)
        return collect_rollout(step, self._env.spec.action, policy, actor, keys, seen)


def unroll_hosted(
    env: HostEnv, policy: AbstractPolicy[Any, Any], *, num: int, length: int, key: Key
) -> Transition[Any]:
    """Time steps ``[num, length]`` of new environments."""
    k_actor, k_seed, k_act = jr.split(key, 3)
    actor, envs = init_actor(env, policy, num, key=k_actor), env.open(num)
    try:
        latest = envs.reset(int(jr.randint(k_seed, (), 0, 2**30)))
        actor = replace(actor, timestep=timestep_of(latest))
        return collect_rollout(envs.step, env.spec.action, policy, actor, jr.split(k_act, length))[1]
    finally:
        envs.close()


def unseen(latest: HostTimeStep, actor: ActorState, chosen: Values, t: int) -> None:
    """Ignore a time step."""
    del latest, actor, chosen, t


def collect_rollout(
    step: Callable[[Values], HostTimeStep],
    spec: ActionSpec,
    policy: AbstractPolicy[Any, Any],
    actor: ActorState,
    keys: Array,
    seen: Callable[[HostTimeStep, ActorState, Values, int], None] = unseen,
) -> tuple[ActorState, Transition[Any]]:
    """Collect one time step for each key; ``seen`` gets each with the vectors that the agent chose before it."""
    rollout = _blank(policy, actor, keys.shape[0])
    arrival = _Arrival(actor, actor.carry, _shown_to(actor))
    result: tuple[HostTimeStep, Values] | None = None
    for t in range(keys.shape[0]):
        actor, carry, rollout, chosen, action = _act(policy, arrival, rollout, np.int32(t), keys, spec=spec)
        if result is not None:
            seen(result[0], actor, result[1], t - 1)
        latest = step(np.asarray(action))
        if latest.cut.any():
            rollout, actor = _cut(rollout, actor, np.int32(t), latest.cut)
        arrival = _Arrival(actor, carry, shown_by(latest))
        result = latest, np.asarray(chosen)  # decoding hides what is not finite
    actor = _take_in(arrival)
    if result is not None:
        seen(result[0], actor, result[1], keys.shape[0] - 1)
    return actor, rollout


def _shown_to(actor: ActorState) -> Shown:
    """What the actor was shown at its present time steps."""
    now = actor.timestep
    return (now.obs, now.privileged, now.reward.nominal, now.is_first, now.is_last, now.is_terminal)


@ft.partial(jax.jit, static_argnames="length")
def _blank(policy: AbstractPolicy[Any, Any], actor: ActorState, length: int) -> Transition[Any]:
    """Zeros of the shape of a rollout."""

    def act(carry: Any, now: TimeStep) -> Transition[Any]:
        _, action, extras = policy(carry, now.obs, now.is_first, key=None)
        return Transition(now, action, extras)

    shapes = jax.eval_shape(jax.vmap(act), actor.carry, actor.timestep)
    return jax.tree.map(lambda x: jnp.zeros((x.shape[0], length, *x.shape[1:]), x.dtype), shapes)


class _EpisodeTotals:
    """Sums over the episodes that ended, and the first non-finite values of a chunk."""

    def __init__(self) -> None:
        self._count = 0
        self._values: dict[str, list[float]] = {}
        self._faults = {"observation": NEVER, "reward": NEVER, "action": NEVER}

    def add(self, latest: HostTimeStep, actor: ActorState, action: Values, t: int) -> None:
        """Add one step of every environment."""
        seen = [("observation", part) for part in jax.tree.leaves((latest.obs, latest.privileged))]
        for name, values in (*seen, ("reward", latest.reward), ("action", action)):
            if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
                wrong = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
                self._faults[name] = min(self._faults[name], t * len(values) + wrong)
        if not latest.is_last.any():
            return
        ended = np.asarray(latest.is_last)
        self._count += int(ended.sum())
        own = {"return_nominal": actor.return_nominal, "length": actor.length}
        described = without_reserved(latest.metrics) | own
        for name, values in described.items():
            known = np.asarray(values, float)[ended]
            self._values.setdefault(name, []).extend(known[np.isfinite(known)].tolist())

    def sums(self) -> EpisodeSums:
        """Sums of the chunk."""
        return EpisodeSums(
            count=jnp.float32(self._count),
            metrics={name: jnp.float32(sum(values)) for name, values in self._values.items()},
            counts={name: jnp.float32(len(values)) for name, values in self._values.items()},
            faults=NonFiniteReport(**{name: jnp.int32(first) for name, first in self._faults.items()}),
        )


def _seed_of(seed: int, iteration: int) -> int:
    """Seed of the episodes that begin at an iteration, below 2^31."""
    return int(np.random.SeedSequence([seed, iteration]).generate_state(1)[0] >> 1)
