"""The contract between agents and the one training loop."""

from abc import abstractmethod
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, Shaped

from s5wm.types import Carry, Extras, Key, Metrics, Scalar, Transition

Learner = TypeVar("Learner")


class AbstractPolicy(eqx.Module, Generic[Carry, Extras]):
    """Exactly the arrays that acting needs: rollouts, evaluation and export use nothing else."""

    @abstractmethod
    def initial(self) -> Carry:
        """What the policy remembers before an episode."""

    @abstractmethod
    def __call__(
        self, carry: Carry, obs: Shaped[Array, " ..."], is_first: Bool[Array, ""], *, key: Key | None
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
    def update(
        self, learner: Learner, rollout: Transition[Any], *, smoothing_weight: Scalar, key: Key
    ) -> tuple[Learner, Metrics]:
        """Learn from a fresh rollout ``[N, T, ...]``; value targets use ``r_nom + w * r_aug``."""
