"""The policy in NumPy: reference of an exported file, operation by operation in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

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
    Graph,
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
)
from s5wm.deploy.inputs import Array, Inputs


def evaluate(
    graph: Graph, inputs: Inputs, memory: Float[np.ndarray, " M"]
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " M"]]:
    """Action and next memory."""
    known: dict[str, Array] = {value.name: array for value, array in zip(graph.inputs, inputs, strict=True)}
    known[graph.memory.name] = memory
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        for operation in graph.operations:
            result = _RULES[type(operation)](operation, known)
            known[operation.out.name] = result.astype(memory.dtype, copy=False).reshape(operation.out.shape)
    return known[graph.action.name], known[graph.next_memory.name]


Known = dict[str, Array]


def _dense(op: Dense, known: Known) -> Array:
    return known[op.x.name] @ op.weight.T + op.bias


def _block_dense(op: BlockDense, known: Known) -> Array:
    groups, _, inputs = op.weight.shape
    return np.einsum("goi,gi->go", op.weight, known[op.x.name].reshape(groups, inputs))


def _binary(op: Binary, known: Known) -> Array:
    a, b = known[op.a.name], known[op.b.name]
    return a + b if op.arithmetic is Arithmetic.ADD else a * b


def _sigmoid(x: Array) -> Array:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


def _gelu(x: Array) -> Array:
    inner = np.float32(np.sqrt(2.0 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1) + np.tanh(inner))


FUNCTIONS: dict[Function, Callable[[Array], Array]] = {
    Function.TANH: np.tanh,
    Function.SIGMOID: _sigmoid,
    Function.SILU: lambda x: x * _sigmoid(x),
    Function.GELU: _gelu,
    Function.SYMLOG: lambda x: np.sign(x) * np.log1p(np.abs(x)),
}


def _unary(op: Unary, known: Known) -> Array:
    return FUNCTIONS[op.function](known[op.x.name])


def _affine(op: Affine, known: Known) -> Array:
    return (known[op.x.name].astype(op.shift.dtype) + op.shift) * op.scale


def _clip(op: Clip, known: Known) -> Array:
    return np.clip(known[op.x.name], np.float32(op.low), np.float32(op.high))


def _rms_norm(op: RmsNorm, known: Known) -> Array:
    x = known[op.x.name]
    mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
    return x * (np.float32(1) / np.sqrt(mean + np.float32(op.epsilon))) * op.scale


def _concat(op: Concat, known: Known) -> Array:
    return np.concatenate([known[part.name] for part in op.parts], axis=-1)


def _slice(op: Slice, known: Known) -> Array:
    return known[op.x.name][op.start : op.start + op.out.size]


def _reshape(op: Reshape, known: Known) -> Array:
    return known[op.x.name]


def _recurrence(op: Recurrence, known: Known) -> Array:
    (re, im), (a, b) = known[op.x.name].reshape(-1, 2).T, op.decay.reshape(-1, 2).T
    turned = np.stack([a * re - b * im, a * im + b * re], axis=-1)
    return turned.reshape(-1) + known[op.drive.name]


def _one_hot(op: OneHot, known: Known) -> Array:
    x = known[op.x.name].reshape(op.groups, -1)
    return np.eye(x.shape[1], dtype=np.float32)[np.argmax(x, axis=1)]


def _select(op: Select, known: Known) -> Array:
    return known[op.a.name] if known[op.flag.name][0] > 0.5 else known[op.b.name]


def _conv(op: Conv, known: Known) -> Array:
    x, size = known[op.x.name], op.kernel.shape[0]
    before = (size - 1) // 2
    around = (before, size - 1 - before)
    padded = np.pad(x, (around, around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    return np.einsum("hwikl,klio->hwo", windows, op.kernel, optimize=True) + op.bias


def _max_pool(op: MaxPool, known: Known) -> Array:
    high, wide, channels = op.x.shape
    return known[op.x.name].reshape(high // 2, 2, wide // 2, 2, channels).max(axis=(1, 3))


def _patches(op: Patches, known: Known) -> Array:
    (high, wide, channels), side = op.x.shape, op.side
    squares = known[op.x.name].reshape(high // side, side, wide // side, side, channels)
    return squares.transpose(0, 2, 1, 3, 4)


_RULES: dict[type[Operation], Callable[[Any, Known], Array]] = {
    Dense: _dense,
    BlockDense: _block_dense,
    Binary: _binary,
    Unary: _unary,
    Affine: _affine,
    Clip: _clip,
    RmsNorm: _rms_norm,
    Concat: _concat,
    Slice: _slice,
    Reshape: _reshape,
    Recurrence: _recurrence,
    OneHot: _one_hot,
    Select: _select,
    Conv: _conv,
    MaxPool: _max_pool,
    Patches: _patches,
}
