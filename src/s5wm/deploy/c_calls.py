"""C calls of the operations of a graph."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

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
    MaxPool,
    OneHot,
    Operation,
    Patches,
    Recurrence,
    Reshape,
    RmsNorm,
    Select,
    Slice,
    Unary,
    Value,
)

Places: TypeAlias = Mapping[str, str]
"""The C expression that points to each value."""

Call: TypeAlias = tuple[str, list[object]]
"""A function of ``kernels.c``, and its arguments after the result."""


def calls_of(op: Operation, at: Places) -> list[str]:
    """The statements of an operation; none for one that is only another view of its input."""
    if isinstance(op, Slice | Reshape):
        return []
    if isinstance(op, Concat):
        return _concat(op, at)
    name, arguments = _CALLS[type(op)](op, at)
    return [f"{name}({', '.join([at[op.out.name], *map(str, arguments)])});"]


def constant_name(op: Operation, field: str) -> str:
    """Of a constant array."""
    return f"{op.out.name}_{field}"


def literal(value: float | np.floating) -> str:
    """A float32 constant with nine digits, which are exact."""
    text = f"{float(value):.9g}"
    return text + ("f" if any(mark in text for mark in ".e") else ".0f")


def offset(base: str, start: int) -> str:
    """``base + start``, where base may itself be such a sum."""
    name, _, before = base.partition(" + ")
    total = int(before or 0) + start
    return f"{name} + {total}" if total else name


def _concat(op: Concat, at: Places) -> list[str]:
    stride = op.out.shape[-1]
    rows, start, calls = op.out.size // stride, 0, list[str]()
    for part in op.parts:
        width = part.shape[-1]
        target = offset(at[op.out.name], start)
        calls.append(f"put({target}, {_of(part, at)}, {rows}, {width}, {stride});")
        start += width
    return calls


def _of(value: Value, at: Places) -> str:
    return at[value.name]


def _dense(op: Dense, at: Places) -> Call:
    outputs, inputs = op.weight.shape
    weights = [constant_name(op, "weight"), constant_name(op, "bias")]
    return "dense", [_of(op.x, at), *weights, op.x.size // inputs, inputs, outputs]


def _block_dense(op: BlockDense, at: Places) -> Call:
    groups, outputs, inputs = op.weight.shape
    return "block_dense", [_of(op.x, at), constant_name(op, "weight"), groups, inputs, outputs]


def _binary(op: Binary, at: Places) -> Call:
    name = "add" if op.arithmetic is Arithmetic.ADD else "multiply"
    return name, [_of(op.a, at), _of(op.b, at), op.out.size]


def _unary(op: Unary, at: Places) -> Call:
    return f"apply_{op.function.value}", [_of(op.x, at), op.out.size]


def _affine(op: Affine, at: Places) -> Call:
    if op.x.is_uint8:
        return "affine_pixels", [
            _of(op.x, at),
            *_with_step(op, "shift"),
            *_with_step(op, "scale"),
            *_rows(op.x),
        ]
    return "affine", [_of(op.x, at), *_with_step(op, "shift"), *_with_step(op, "scale"), *_rows(op.x)]


def _with_step(op: Affine, field: str) -> list[object]:
    return [constant_name(op, field), int(getattr(op, field).size > 1)]


def _rows(value: Value) -> tuple[int, int]:
    width = value.shape[-1]
    return value.size // width, width


def _clip(op: Clip, at: Places) -> Call:
    return "clip", [_of(op.x, at), literal(op.low), literal(op.high), op.x.size]


def _rms_norm(op: RmsNorm, at: Places) -> Call:
    return "rms_norm", [_of(op.x, at), constant_name(op, "scale"), literal(op.epsilon), *_rows(op.x)]


def _recurrence(op: Recurrence, at: Places) -> Call:
    return "recurrence", [_of(op.x, at), _of(op.drive, at), constant_name(op, "decay"), op.x.size]


def _one_hot(op: OneHot, at: Places) -> Call:
    return "one_hot", [_of(op.x, at), op.groups, op.x.size // op.groups]


def _select(op: Select, at: Places) -> Call:
    return "choose", [f"*({_of(op.flag, at)})", _of(op.a, at), _of(op.b, at), op.out.size]


def _conv(op: Conv, at: Places) -> Call:
    size, _, _, outputs = op.kernel.shape
    constants = [constant_name(op, "kernel"), constant_name(op, "bias")]
    return "conv", [_of(op.x, at), *constants, *op.x.shape, outputs, size]


def _max_pool(op: MaxPool, at: Places) -> Call:
    return "max_pool", [_of(op.x, at), *op.x.shape]


def _patches(op: Patches, at: Places) -> Call:
    return "patches", [_of(op.x, at), *op.x.shape, op.side]


_CALLS: dict[type[Operation], Callable[[Any, Places], Call]] = {
    Dense: _dense,
    BlockDense: _block_dense,
    Binary: _binary,
    Unary: _unary,
    Affine: _affine,
    Clip: _clip,
    RmsNorm: _rms_norm,
    Recurrence: _recurrence,
    OneHot: _one_hot,
    Select: _select,
    Conv: _conv,
    MaxPool: _max_pool,
    Patches: _patches,
}
