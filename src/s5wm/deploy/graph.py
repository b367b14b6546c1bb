"""The policy as a short list of operations: the source of ONNX, C and the NumPy reference.

A graph maps one observation (an array, or an image and a vector) and one flat memory vector to an action and the next
memory.  Arrays are float32, images are ``[h, w, c]``; an operation never changes its inputs.  All zeros is the memory
before an episode.
"""

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Weights: TypeAlias = Float[np.ndarray, "..."]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """The result of an operation, or an input of the graph."""

    name: str
    shape: Shape
    is_uint8: bool = False  # only the observation of an image policy

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


Values: TypeAlias = tuple[Value, ...]


class Function(enum.StrEnum):
    """Elementwise functions."""

    TANH = "tanh"
    SIGMOID = "sigmoid"
    SILU = "silu"  # x sigmoid(x)
    GELU = "gelu"  # the tanh form
    SYMLOG = "symlog"  # sign(x) ln(1 + |x|)


class Arithmetic(enum.StrEnum):
    """Elementwise operations on two values of one shape."""

    ADD = "add"
    MULTIPLY = "multiply"


@dataclass(frozen=True, eq=False)
class Dense:
    """``y = W x + b`` over the last axis."""

    out: Value
    x: Value
    weight: Weights  # [O, I]
    bias: Weights  # [O]


@dataclass(frozen=True, eq=False)
class BlockDense:
    """``y_g = W_g x_g`` for each of ``G`` equal slices of a vector."""

    out: Value
    x: Value
    weight: Weights  # [G, O, I]


@dataclass(frozen=True, eq=False)
class Binary:
    """``a + b`` or ``a * b``."""

    out: Value
    a: Value
    b: Value
    arithmetic: Arithmetic


@dataclass(frozen=True, eq=False)
class Unary:
    """An elementwise function."""

    out: Value
    x: Value
    function: Function


@dataclass(frozen=True, eq=False)
class Affine:
    """``(x + shift) * scale`` with constants along the last axis; the only operation that reads uint8."""

    out: Value
    x: Value
    shift: Weights  # [D], or [1] for all
    scale: Weights


@dataclass(frozen=True, eq=False)
class Clip:
    """Limits on both sides."""

    out: Value
    x: Value
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class RmsNorm:
    """``x / sqrt(mean(x^2) + epsilon) * scale`` over the last axis."""

    out: Value
    x: Value
    scale: Weights  # [D]
    epsilon: float


@dataclass(frozen=True, eq=False)
class Concat:
    """Values side by side along the last axis."""

    out: Value
    parts: Values


@dataclass(frozen=True, eq=False)
class Slice:
    """``x[start : start + size]`` of a vector."""

    out: Value
    x: Value
    start: int


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same numbers in another shape."""

    out: Value
    x: Value


@dataclass(frozen=True, eq=False)
class Recurrence:
    """``x' = decay x + drive`` of complex numbers, stored as (re, im) one after the other: an S5 layer's state."""

    out: Value
    x: Value  # [2 P]
    drive: Value  # [2 P]
    decay: Weights  # [2 P]


@dataclass(frozen=True, eq=False)
class OneHot:
    """For each of ``groups`` equal slices of a vector: 1 at its largest number, 0 elsewhere."""

    out: Value
    x: Value
    groups: int


@dataclass(frozen=True, eq=False)
class Select:
    """``a`` where the flag is above one half, else ``b``."""

    out: Value
    flag: Value  # [1]
    a: Value
    b: Value


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution with stride 1, zeros around the image."""

    out: Value
    x: Value  # [h, w, I]
    kernel: Weights  # [k, k, I, O]
    bias: Weights  # [O]


@dataclass(frozen=True, eq=False)
class MaxPool:
    """The largest of each 2 x 2 pixels."""

    out: Value
    x: Value


@dataclass(frozen=True, eq=False)
class Patches:
    """``[h, w, c]`` to ``[h / s, w / s, s s c]``: the pixels of each square of side ``s``, row by row."""

    out: Value
    x: Value
    side: int


Operation: TypeAlias = (
    Dense
    | BlockDense
    | Binary
    | Unary
    | Affine
    | Clip
    | RmsNorm
    | Concat
    | Slice
    | Reshape
    | Recurrence
    | OneHot
    | Select
    | Conv
    | MaxPool
    | Patches
)


@dataclass(frozen=True)
class Slot:
    """A part of the memory vector."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class Graph:
    """One step of a policy: ``inputs, memory -> action, next memory``."""

    inputs: Values  # obs, then vector where numbers come with an image (``inputs.NAMES``)
    memory: Value  # [M]; M is 0 for a policy without memory
    action: Value  # [A], as the task takes it
    next_memory: Value  # [M]
    slots: tuple[Slot, ...]
    operations: tuple[Operation, ...]

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(array.size for operation in self.operations for array in weights_of(operation).values())


def weights_of(operation: Operation) -> dict[str, Weights]:
    """The constant arrays of an operation, by field."""
    return {name: value for name, value in vars(operation).items() if isinstance(value, np.ndarray)}


def inputs_of(operation: Operation) -> Values:
    """What an operation reads."""
    return tuple(_values(operation))


def _values(operation: Operation) -> Iterator[Value]:
    for name, value in vars(operation).items():
        if name == "out":
            continue
        if isinstance(value, Value):
            yield value
        elif name == "parts":
            yield from value
