"""Updates of a learner from rollouts that the host collects: at once, or in a thread while the next is collected."""

import functools as ft
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from s5wm.agents.base import AbstractAgent, AbstractPolicy, MetricSums
from s5wm.types import Key, Transition

Contexts = Iterator[AbstractContextManager[None]]


@ft.partial(jax.jit, donate_argnames="learner")
def _learn(
    agent: AbstractAgent[Any, Any, Any],
    learner: Any,
    rollout: Transition[Any],
    smoothing_weight: Array,
    key: Key,
) -> tuple[Any, MetricSums]:
    return agent.update(learner, rollout, smoothing_weight=smoothing_weight, key=key)


_copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class Learning:
    """A learner and the metrics of its updates; with a thread a rollout waits until the next one is collected.

    Programs that one thread begins run one after the other on a CPU, so that it takes another one to act meanwhile.
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, Any, Any],
        learner: Any,
        weight: Array,
        thread: ThreadPoolExecutor | None,
        contexts: Contexts,
    ) -> None:
        """``contexts``: one is entered for each update."""
        self._agent, self._weight, self._thread, self._contexts = agent, weight, thread, contexts
        self._waiting: tuple[Transition[Any], Key] | None = None
        self._running: Future[None] | None = None
        self._learner = learner
        self._metrics: list[MetricSums] = []

    def settled(self) -> Any:
        """The learner, after the running update."""
        if self._running is not None:
            self._running.result()
            self._running = None
        return self._learner

    def policy(self) -> AbstractPolicy[Any, Any]:
        """The present policy; later updates do not change it."""
        return _copied(self._agent.policy(self.settled()))

    def take(self, rollout: Transition[Any], key: Key) -> None:
        """Learn from a rollout, at once or in the thread."""
        self._waiting = (rollout, key)
        if self._thread is None:
            self.begin()

    def begin(self) -> None:
        """Start the pending update, if any."""
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        if self._thread is None:
            self._learn(*waiting)
        else:
            self.settled()
            self._running = self._thread.submit(self._learn, *waiting)

    def _learn(self, rollout: Transition[Any], key: Key) -> None:
        with next(self._contexts):
            self._learner, metrics = _learn(self._agent, self._learner, rollout, self._weight, key)
        self._metrics.append(metrics)
        if self._thread is not None:
            jax.block_until_ready(self._learner)

    def total(self) -> MetricSums:
        """Metrics of all updates."""
        self.settled()
        return jax.tree.map(lambda *each: jnp.stack(each).sum(0), *self._metrics)
