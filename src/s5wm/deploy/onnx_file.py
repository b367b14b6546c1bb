"""A graph as ONNX: ``obs, h_in -> actions, h_out``, each with an axis of 1 in front; opset 17, float32.

Between ``obs`` and ``h_in`` is ``vector``, where numbers come with an image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Shaped

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
    Value,
)
from s5wm.errors import ConfigError

OPSET = 17
IR_VERSION = 8
"""Of the file format: what ONNX Runtime from 1.12 on reads."""

Array = Shaped[np.ndarray, "..."]


def to_onnx(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """The model; ``metadata`` becomes its metadata properties."""
    try:
        import onnx
        from onnx import helper
    except ModuleNotFoundError as error:
        raise ConfigError("ONNX files need two packages: pip install 's5wm[deploy]'") from error

    writer = _Writer(helper, onnx.numpy_helper)
    for operation in graph.operations:
        _RULES[type(operation)](operation, writer)
    outputs = {graph.action: "actions"}
    if graph.memory.size:
        outputs[graph.next_memory] = "h_out"
    for value, name in outputs.items():
        writer.node("Identity", [value.name], out=name)
    kind, byte = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8

    def info(value: Value, name: str) -> Any:
        return helper.make_tensor_value_info(name, byte if value.is_uint8 else kind, (1, *value.shape))

    inputs = [*graph.inputs, *([graph.memory] if graph.memory.size else [])]
    body = helper.make_graph(
        writer.nodes,
        "policy",
        [info(value, value.name) for value in inputs],
        [info(value, name) for value, name in outputs.items()],
        writer.constants,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="s5wm")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@dataclass(eq=False)
class _Writer:
    """Nodes and constants so far."""

    helper: Any
    numpy_helper: Any
    nodes: list[Any] = field(default_factory=list[Any])
    constants: list[Any] = field(default_factory=list[Any])

    def constant(self, array: Array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def node(self, kind: str, inputs: list[str], out: str | None = None, **attributes: Any) -> str:
        name = out or f"node_{len(self.nodes)}"
        self.nodes.append(
            self.helper.make_node(kind, inputs, [name], name=f"{kind}_{len(self.nodes)}", **attributes)
        )
        return name

    def reshape(self, name: str, shape: tuple[int, ...], out: str | None = None) -> str:
        return self.node("Reshape", [name, self.constant(np.array(shape, np.int64))], out=out)


def _dense(op: Dense, w: _Writer) -> None:
    weight, bias = w.constant(op.weight.T), w.constant(op.bias)
    if len(op.x.shape) == 1:
        w.node("Gemm", [op.x.name, weight, bias], out=op.out.name)
        return
    w.node("Add", [w.node("MatMul", [op.x.name, weight]), bias], out=op.out.name)


def _block_dense(op: BlockDense, w: _Writer) -> None:
    groups, _, inputs = op.weight.shape
    slices = w.reshape(op.x.name, (groups, inputs, 1))
    w.reshape(w.node("MatMul", [w.constant(op.weight), slices]), (1, op.out.size), out=op.out.name)


def _binary(op: Binary, w: _Writer) -> None:
    kind = "Add" if op.arithmetic is Arithmetic.ADD else "Mul"
    w.node(kind, [op.a.name, op.b.name], out=op.out.name)


def _unary(op: Unary, w: _Writer) -> None:
    x, out = op.x.name, op.out.name
    match op.function:
        case Function.TANH:
            w.node("Tanh", [x], out=out)
        case Function.SIGMOID:
            _sigmoid(w, x, out)
        case Function.SILU:
            w.node("Mul", [x, _sigmoid(w, x)], out=out)
        case Function.GELU:
            cube = w.node("Mul", [w.node("Mul", [x, x]), x])
            inner = w.node("Add", [x, w.node("Mul", [cube, w.scalar(0.044715)])])
            bend = w.node("Tanh", [w.node("Mul", [inner, w.scalar(np.sqrt(2.0 / np.pi))])])
            half = w.node("Mul", [x, w.scalar(0.5)])
            w.node("Mul", [half, w.node("Add", [bend, w.scalar(1.0)])], out=out)
        case Function.SYMLOG:
            size = w.node("Log", [w.node("Add", [w.node("Abs", [x]), w.scalar(1.0)])])
            w.node("Mul", [w.node("Sign", [x]), size], out=out)


def _sigmoid(w: _Writer, x: str, out: str | None = None) -> str:
    # ONNX Runtime's own Sigmoid approximates so roughly that actions of image policies err by 4e-5 instead of 3e-6.
    grown = w.node("Add", [w.node("Exp", [w.node("Neg", [x])]), w.scalar(1.0)])
    return w.node("Reciprocal", [grown], out=out)


def _affine(op: Affine, w: _Writer) -> None:
    x = w.node("Cast", [op.x.name], to=1) if op.x.is_uint8 else op.x.name  # 1 is float32
    shifted = w.node("Add", [x, w.constant(op.shift)])
    w.node("Mul", [shifted, w.constant(op.scale)], out=op.out.name)


def _clip(op: Clip, w: _Writer) -> None:
    w.node("Clip", [op.x.name, w.scalar(op.low), w.scalar(op.high)], out=op.out.name)


def _rms_norm(op: RmsNorm, w: _Writer) -> None:
    x = op.x.name
    mean = w.node("ReduceMean", [w.node("Mul", [x, x])], axes=[-1], keepdims=1)
    size = w.node("Sqrt", [w.node("Add", [mean, w.scalar(op.epsilon)])])
    w.node("Mul", [w.node("Div", [x, size]), w.constant(op.scale)], out=op.out.name)


def _concat(op: Concat, w: _Writer) -> None:
    w.node("Concat", [part.name for part in op.parts], out=op.out.name, axis=-1)


def _slice(op: Slice, w: _Writer) -> None:
    bounds = [w.constant(np.array([bound], np.int64)) for bound in (op.start, op.start + op.out.size, 1)]
    w.node("Slice", [op.x.name, *bounds], out=op.out.name)


def _reshape(op: Reshape, w: _Writer) -> None:
    w.reshape(op.x.name, (1, *op.out.shape), out=op.out.name)


def _recurrence(op: Recurrence, w: _Writer) -> None:
    # (a + ib)(re + i im) is a (re, im) + b (-im, re), the latter a reordering with signs.
    (a, b), size = op.decay.reshape(-1, 2).T, op.x.size
    order = np.arange(size).reshape(-1, 2)[:, ::-1].reshape(-1)
    other = w.node("Gather", [op.x.name, w.constant(order.astype(np.int64))], axis=1)
    straight = w.node("Mul", [op.x.name, w.constant(np.repeat(a, 2))])
    crossed = w.node("Mul", [other, w.constant(np.stack([-b, b], axis=1).reshape(-1))])
    w.node("Add", [w.node("Add", [straight, crossed]), op.drive.name], out=op.out.name)


def _one_hot(op: OneHot, w: _Writer) -> None:
    classes = op.x.size // op.groups
    largest = w.node("ArgMax", [w.reshape(op.x.name, (1, op.groups, classes))], axis=2, keepdims=0)
    depth, values = w.constant(np.array(classes, np.int64)), w.constant(np.array([0, 1], np.float32))
    w.reshape(w.node("OneHot", [largest, depth, values], axis=-1), (1, op.out.size), out=op.out.name)


def _select(op: Select, w: _Writer) -> None:
    flag = w.reshape(w.node("Greater", [op.flag.name, w.scalar(0.5)]), (1,) * (len(op.a.shape) + 1))
    w.node("Where", [flag, op.a.name, op.b.name], out=op.out.name)


def _conv(op: Conv, w: _Writer) -> None:
    size = op.kernel.shape[0]
    before = (size - 1) // 2
    pads = [before, before, size - 1 - before, size - 1 - before]
    kernel = w.constant(op.kernel.transpose(3, 2, 0, 1))
    image = w.node("Transpose", [op.x.name], perm=[0, 3, 1, 2])
    y = w.node("Conv", [image, kernel, w.constant(op.bias)], pads=pads)
    w.node("Transpose", [y], out=op.out.name, perm=[0, 2, 3, 1])


def _max_pool(op: MaxPool, w: _Writer) -> None:
    image = w.node("Transpose", [op.x.name], perm=[0, 3, 1, 2])
    y = w.node("MaxPool", [image], kernel_shape=[2, 2], strides=[2, 2])
    w.node("Transpose", [y], out=op.out.name, perm=[0, 2, 3, 1])


def _patches(op: Patches, w: _Writer) -> None:
    (high, wide, channels), side = op.x.shape, op.side
    squares = w.reshape(op.x.name, (high // side, side, wide // side, side, channels))
    w.reshape(w.node("Transpose", [squares], perm=[0, 2, 1, 3, 4]), (1, *op.out.shape), out=op.out.name)


_RULES: dict[type[Operation], Callable[[Any, _Writer], None]] = {
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
