"""Arrays that hold one time step of ``N`` environments, in one piece of memory that processes can share."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from s5wm.envs.adapters.observations import Values

ALIGNED = 64
"""Bytes: every array begins at a multiple, so that no two share a line of the processor's cache."""


@dataclass(frozen=True)
class Field:
    """Shape and dtype of one environment's entry."""

    shape: tuple[int, ...]
    dtype: str

    def bytes(self, num: int) -> int:
        """Of ``num`` environments, rounded up to where another array may begin."""
        size = num * math.prod(self.shape) * np.dtype(self.dtype).itemsize
        return -(-size // ALIGNED) * ALIGNED


@dataclass(frozen=True)
class Layout:
    """Arrays of a time step: parts of the observation (image, vector, privileged) and the action chosen there."""

    parts: dict[str, Field]
    action: Field  # in the environment's own form

    @property
    def fields(self) -> dict[str, Field]:
        """Everything, by name."""
        flags = {name: Field((), "?") for name in ("is_first", "is_last", "is_terminal")}
        return self.parts | flags | {"reward": Field((), "f8"), "action": self.action}

    def bytes(self, num: int) -> int:
        """Memory for ``num`` environments."""
        return sum(field.bytes(num) for field in self.fields.values())

    def arrays(self, num: int, memory: Any) -> dict[str, Values]:
        """Arrays ``[num, ...]`` over a piece of memory."""
        found: dict[str, Values] = {}
        offset = 0
        for name, field in self.fields.items():
            count = num * math.prod(field.shape)
            flat = np.frombuffer(memory, field.dtype, count, offset)
            found[name] = flat.reshape(num, *field.shape)
            offset += field.bytes(num)
        return found
