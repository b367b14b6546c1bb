"""The sequence core of a world model: a resettable recurrence over one sequence."""

from abc import abstractmethod
from typing import Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool, Float

Memory = TypeVar("Memory")


class AbstractCore(eqx.Module, Generic[Memory]):
    """A recurrence ``(memory, u_t) -> (memory', y_t)`` that a reset flag restarts.

    Law (tests/laws): ``scan`` equals folding ``step``.  A reset replaces the incoming memory by
    ``initial()`` and keeps the input of its own step.
    """

    @abstractmethod
    def initial(self) -> Memory:
        """Memory at the start of an episode."""

    @abstractmethod
    def step(
        self, memory: Memory, u: Float[Array, " U"], is_first: Bool[Array, ""]
    ) -> tuple[Memory, Float[Array, " D"]]:
        """One step."""

    @abstractmethod
    def scan(
        self, memory: Memory, u: Float[Array, "T U"], is_first: Bool[Array, " T"]
    ) -> tuple[Memory, Float[Array, "T D"]]:
        """A whole sequence; returns the memories *at every t* (leading axis ``T``) and the outputs."""
