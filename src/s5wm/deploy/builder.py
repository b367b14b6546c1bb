"""Builder of a graph: appends operations and infers their shapes."""

import math
from dataclasses import dataclass, field

import numpy as np

from s5wm.deploy.graph import (
    Affine,
    Arithmetic,
    Binary,
    BlockDense,
    Clip,
    Concat,
    Conv,
    Dense,
    Function,
    MaxPool,
    OneHot,
    Operation,
    Patches,
    Recurrence,
    Reshape,
    RmsNorm,
    Select,
    Shape,
    Slice,
    Unary,
    Value,
    Weights,
)


@dataclass(eq=False)
class Builder:
    """Every method adds one operation and returns its result; shapes that do not fit raise ``ValueError``."""

    operations: list[Operation] = field(default_factory=list[Operation])
    _count: int = 0

    def _new(self, kind: str, shape: Shape) -> Value:
        self._count += 1
        return Value(f"{kind}_{self._count}", shape)

    def _added(self, operation: Operation) -> Value:
        self.operations.append(operation)
        return operation.out

    def dense(self, x: Value, weight: Weights, bias: Weights | None = None) -> Value:
        """``W x + b``."""
        _check(x.shape[-1] == weight.shape[1], f"a matrix {weight.shape} on {x.shape}")
        bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
        out = self._new("dense", (*x.shape[:-1], weight.shape[0]))
        return self._added(Dense(out, x, _f32(weight), _f32(bias)))

    def block_dense(self, x: Value, weight: Weights) -> Value:
        """``W_g x_g``."""
        groups, outputs, inputs = weight.shape
        _check(x.shape == (groups * inputs,), f"blocks {weight.shape} on {x.shape}")
        return self._added(BlockDense(self._new("blocks", (groups * outputs,)), x, _f32(weight)))

    def add(self, a: Value, b: Value) -> Value:
        """``a + b``."""
        _check(a.shape == b.shape, f"a sum of {a.shape} and {b.shape}")
        return self._added(Binary(self._new("add", a.shape), a, b, Arithmetic.ADD))

    def multiply(self, a: Value, b: Value) -> Value:
        """``a * b``."""
        _check(a.shape == b.shape, f"a product of {a.shape} and {b.shape}")
        return self._added(Binary(self._new("multiply", a.shape), a, b, Arithmetic.MULTIPLY))

    def unary(self, function: Function, x: Value) -> Value:
        """``f(x)``."""
        return self._added(Unary(self._new(function.value, x.shape), x, function))

    def affine(self, x: Value, shift: Weights | float, scale: Weights | float) -> Value:
        """``(x + shift) * scale``."""
        arrays = [_f32(np.atleast_1d(np.asarray(constant))) for constant in (shift, scale)]
        _check(all(a.shape in ((1,), x.shape[-1:]) for a in arrays), f"constants on {x.shape}")
        return self._added(Affine(self._new("affine", x.shape), x, arrays[0], arrays[1]))

    def clip(self, x: Value, low: float, high: float) -> Value:
        """Limits."""
        return self._added(Clip(self._new("clip", x.shape), x, low, high))

    def rms_norm(self, x: Value, scale: Weights, epsilon: float) -> Value:
        """Normalised."""
        _check(x.shape[-1:] == scale.shape, f"a norm of {scale.shape} on {x.shape}")
        return self._added(RmsNorm(self._new("norm", x.shape), x, _f32(scale), epsilon))

    def concat(self, *parts: Value) -> Value:
        """Side by side."""
        if len(parts) == 1:
            return parts[0]
        _check(len({part.shape[:-1] for part in parts}) == 1, f"parts {[part.shape for part in parts]}")
        width = sum(part.shape[-1] for part in parts)
        return self._added(Concat(self._new("concat", (*parts[0].shape[:-1], width)), parts))

    def slice(self, x: Value, start: int, size: int) -> Value:
        """A part."""
        _check(
            len(x.shape) == 1 and 0 <= start <= start + size <= x.size, f"part {start}+{size} of {x.shape}"
        )
        return x if size == x.size else self._added(Slice(self._new("slice", (size,)), x, start))

    def split(self, x: Value, count: int) -> tuple[Value, ...]:
        """Equal parts of a vector."""
        size = x.size // count
        return tuple(self.slice(x, index * size, size) for index in range(count))

    def reshape(self, x: Value, shape: Shape) -> Value:
        """Another shape."""
        _check(math.prod(shape) == x.size, f"{x.shape} as {shape}")
        return x if shape == x.shape else self._added(Reshape(self._new("reshape", shape), x))

    def recurrence(self, x: Value, drive: Value, decay: Weights) -> Value:
        """``decay x + drive``."""
        _check(x.shape == drive.shape == decay.shape, f"a recurrence of {x.shape} by {drive.shape}")
        return self._added(Recurrence(self._new("state", x.shape), x, drive, _f32(decay)))

    def one_hot(self, x: Value, groups: int) -> Value:
        """One-hot of the largest number of each group."""
        return self._added(OneHot(self._new("one_hot", x.shape), x, groups))

    def one_hots(self, x: Value, groups: tuple[int, ...]) -> Value:
        """The same of groups of these sizes."""
        if len(set(groups)) == 1:
            return self.one_hot(x, len(groups))
        starts = np.cumsum([0, *groups])
        parts = [self.slice(x, int(start), size) for start, size in zip(starts, groups, strict=False)]
        return self.concat(*(self.one_hot(part, 1) for part in parts))

    def select(self, flag: Value, a: Value, b: Value) -> Value:
        """``a`` or ``b``."""
        _check(a.shape == b.shape and flag.shape == (1,), f"a choice of {a.shape} and {b.shape}")
        return self._added(Select(self._new("select", a.shape), flag, a, b))

    def conv(self, x: Value, kernel: Weights, bias: Weights) -> Value:
        """Convolution."""
        _check(x.shape[-1] == kernel.shape[2], f"a kernel {kernel.shape} on {x.shape}")
        out = self._new("conv", (*x.shape[:-1], kernel.shape[3]))
        return self._added(Conv(out, x, _f32(kernel), _f32(bias)))

    def max_pool(self, x: Value) -> Value:
        """Max pooling by 2."""
        high, wide, channels = x.shape
        return self._added(MaxPool(self._new("pool", (high // 2, wide // 2, channels)), x))

    def patches(self, x: Value, side: int) -> Value:
        """Space to depth."""
        high, wide, channels = x.shape
        shape = (high // side, wide // side, side * side * channels)
        return self._added(Patches(self._new("patches", shape), x, side))


def _f32(array: Weights) -> Weights:
    """A float32 copy with denormal numbers flushed to zero, as on targets that flush them."""
    array = np.ascontiguousarray(array, np.float32)
    return np.where(np.abs(array) < np.finfo(np.float32).tiny, np.float32(0), array)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"the acting network has {what}; these shapes do not fit")
