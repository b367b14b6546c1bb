"""The contract between agents and the one training loop, and the guard of their gradient steps."""

from abc import abstractmethod
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.types import Carry, Extras, Key, Metrics, Obs, Scalar, Transition

Learner = TypeVar("Learner")
Tree = TypeVar("Tree")


class NonFiniteGuard(eqx.Module):
    """Learning rates as the host has them, and the gradient steps skipped because something was not finite.

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
        """Of every learning rate."""
        return self.rate * self.schedule

    def count(self, healthy: Bool[Array, ""]) -> "NonFiniteGuard":
        """After one more step."""
        in_a_row = jnp.where(healthy, 0, self.in_a_row + 1)
        skipped = self.skipped + (~healthy).astype(jnp.int32)
        return NonFiniteGuard(
            self.rate, self.schedule, skipped, in_a_row, jnp.maximum(self.longest, in_a_row)
        )


class MetricSums(eqx.Module):
    """Sums of metrics over the gradient steps that happened, and how many those were.

    A step that was skipped, or for which there was not enough data yet, is in neither.
    """

    sums: Metrics
    count: Scalar  # a whole number; a float, so that it is added and divided like the sums

    @classmethod
    def of(cls, metrics: Metrics, happened: Bool[Array, ""]) -> "MetricSums":
        """Those of one step."""
        kept = {name: jnp.where(happened, value, 0.0) for name, value in metrics.items()}
        return cls(kept, happened.astype(jnp.float32))

    def total(self) -> "MetricSums":
        """Over the leading axis."""
        return jax.tree.map(lambda x: x.sum(0), self)

    @property
    def means(self) -> dict[str, float]:
        """On the host; empty where no step happened."""
        sums, count = jax.device_get((self.sums, self.count))
        return {name: float(value) / float(count) for name, value in sums.items()} if count > 0 else {}


def is_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number in a tree is."""
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(leaves))


def tree_where(condition: Bool[Array, ""], on_true: Tree, on_false: Tree) -> Tree:
    """One of two trees; what the other holds, NaN or not, does not matter."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), on_true, on_false)


class AbstractPolicy(eqx.Module, Generic[Carry, Extras]):
    """Exactly the arrays that acting needs: rollouts, evaluation and export use nothing else."""

    @abstractmethod
    def initial(self) -> Carry:
        """What the policy remembers before an episode."""

    @abstractmethod
    def __call__(
        self, carry: Carry, obs: Obs, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[Carry, Float[Array, " A"], Extras]:
        """One step of ONE environment; ``key=None`` takes modes instead of samples."""


class AbstractAgent(eqx.Module, Generic[Learner, Carry, Extras]):
    """Learning as two pure functions; on-policy or replay is the agent's private business."""

    @abstractmethod
    def init(self, key: Key) -> Learner:
        """Parameters, optimiser state, normalisers, and the replay if the agent has one."""

    @abstractmethod
    def policy(self, learner: Learner) -> AbstractPolicy[Carry, Extras]:
        """The policy that collects and that is evaluated."""

    @abstractmethod
    def debug_state(self, learner: Learner) -> Any:
        """Arrays that help to understand why learning fails: the batch that was skipped, where it is still there."""

    @abstractmethod
    def update(
        self, learner: Learner, rollout: Transition[Any], *, smoothing_weight: Scalar, key: Key
    ) -> tuple[Learner, MetricSums]:
        """Learn from a fresh rollout ``[N, T, ...]``; value targets use ``r_nom + w * r_aug``."""
