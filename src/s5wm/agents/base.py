"""The contract between agents and the one training loop, and the guard of their gradient steps."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.types import Carry, Extras, Key, Metrics, Obs, Scalar, Transition

Learner = TypeVar("Learner")
Tree = TypeVar("Tree")


class NonFiniteGuard(eqx.Module):
    """Factor of the learning rates, and counts of gradient steps skipped because a value was not finite.

    Every learner has one as ``guard``: the host reads the counts after each chunk, lowers ``rate`` when it rolls back
    and sets ``schedule`` before each chunk.  A skipped step leaves everything that is learned as it was, and is in no
    mean of the metrics.
    """

    rate: Scalar  # factor of every learning rate, lowered for good
    schedule: Scalar  # another one, by the share of the budget that is used
    skipped: Int[Array, ""]  # in total
    in_a_row: Int[Array, ""]  # up to the latest step
    longest: Int[Array, ""]  # such streak so far

    @classmethod
    def init(cls) -> "NonFiniteGuard":
        """Nothing skipped yet."""
        zero = jnp.zeros((), jnp.int32)
        return cls(jnp.ones(()), jnp.ones(()), zero, zero, zero)

    @property
    def factor(self) -> Scalar:
        """Factor of every learning rate."""
        return self.rate * self.schedule

    def count(self, healthy: Bool[Array, ""]) -> "NonFiniteGuard":
        """Update the counts by one step."""
        in_a_row = jnp.where(healthy, 0, self.in_a_row + 1)
        skipped = self.skipped + (~healthy).astype(jnp.int32)
        return NonFiniteGuard(
            self.rate, self.schedule, skipped, in_a_row, jnp.maximum(self.longest, in_a_row)
        )


class MetricSums(eqx.Module):
    """Sums of metrics over gradient steps, and the number of steps.

    A step that was skipped, or for which there was not enough data yet, is in neither.
    """

    sums: Metrics
    count: Scalar  # a whole number; a float, so that it is added and divided like the sums

    @classmethod
    def of(cls, metrics: Metrics, happened: Bool[Array, ""]) -> "MetricSums":
        """Sums of one step."""
        kept = {name: jnp.where(happened, value, 0.0) for name, value in metrics.items()}
        return cls(kept, happened.astype(jnp.float32))

    def total(self) -> "MetricSums":
        """Sum over the leading axis."""
        return jax.tree.map(lambda x: x.sum(0), self)

    @property
    def means(self) -> dict[str, float]:
        """Means as numbers of the host; empty without a step."""
        sums, count = jax.device_get((self.sums, self.count))
        return {name: float(value) / float(count) for name, value in sums.items()} if count > 0 else {}


def is_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number in a tree is finite."""
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(leaves))


def zeros_of(function: Callable[..., Tree], *args: Any) -> Tree:
    """Zeros in the form of its outputs; it is not computed."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *args))


def tree_where(condition: Bool[Array, ""], on_true: Tree, on_false: Tree) -> Tree:
    """Select one of two trees; NaN in the other has no effect."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), on_true, on_false)


class AbstractPolicy(eqx.Module, Generic[Carry, Extras]):
    """The arrays that acting needs; rollouts, evaluation and export use nothing else."""

    @abstractmethod
    def initial(self) -> Carry:
        """Initial carry (memory) of the policy."""

    @abstractmethod
    def __call__(
        self, carry: Carry, obs: Obs, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[Carry, Float[Array, " A"], Extras]:
        """One step of ONE environment; ``key=None`` takes modes instead of samples."""


class AbstractAgent(eqx.Module, Generic[Learner, Carry, Extras]):
    """Learning as two pure functions; an agent decides itself whether it keeps a replay."""

    @abstractmethod
    def init(self, key: Key) -> Learner:
        """Parameters, optimiser state, normalisers, and the replay if the agent has one."""

    @abstractmethod
    def policy(self, learner: Learner) -> AbstractPolicy[Carry, Extras]:
        """The policy that collects and that is evaluated."""

    @abstractmethod
    def debug_state(self, learner: Learner) -> Any:
        """Arrays for debugging a failure: the batch that was skipped, if it is still stored."""

    @abstractmethod
    def update(
        self, learner: Learner, rollout: Transition[Any], *, smoothing_weight: Scalar, key: Key
    ) -> tuple[Learner, MetricSums]:
        """Learn from a fresh rollout ``[N, T, ...]``; value targets use ``r_nom + w * r_aug``."""
