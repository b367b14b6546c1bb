"""Layers of ``s5wm.nn`` as operations.

Every rule names all fields of its class, so that one added later is refused by name instead of being left out.
"""

import functools as ft
import itertools
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np

from s5wm.agents.ppo.actor import TanhMLP
from s5wm.deploy.builder import Builder
from s5wm.deploy.graph import Function, Value, Weights
from s5wm.errors import ConfigError
from s5wm.nn.conv import ConvDown, ImageEncoder, PatchDown
from s5wm.nn.gru import BlockGRU
from s5wm.nn.mlp import MLP, NORM_EPSILON, Identity, Linear, Products, RMSNorm, Trunk
from s5wm.nn.s5 import S5, FullGate, HalfGate
from s5wm.nn.ssm import DiagonalSSM, GemmDtype, SSMOptions


def check_fields(module: Any, *known: str) -> None:
    """Raises ``ConfigError`` if the class of a module has other fields than an export knows."""
    odd = {each.name for each in fields(module)} ^ set(known)
    if odd:
        raise ConfigError(
            f"export does not know {type(module).__name__}.{min(odd)}: leave that option at its default, or add it to "
            "s5wm.deploy.layers"
        )


def host(array: Any) -> Weights:
    """A parameter as NumPy has it."""
    return np.asarray(array, np.float32)


@ft.singledispatch
def apply(module: Any, b: Builder, x: Value) -> Value:
    """``module(x)``."""
    raise ConfigError(f"export knows no {type(module).__name__}; add a rule for it to s5wm.deploy.layers")


@apply.register
def _(module: Identity, b: Builder, x: Value) -> Value:
    check_fields(module)
    return x


@apply.register
def _(module: Linear, b: Builder, x: Value) -> Value:
    check_fields(module, "weight", "bias")
    return b.dense(x, host(module.weight), host(module.bias))


@apply.register
def _(module: RMSNorm, b: Builder, x: Value) -> Value:
    check_fields(module, "scale")
    return b.rms_norm(x, host(module.scale), NORM_EPSILON)


def activated(b: Builder, norm: RMSNorm, x: Value) -> Value:
    """``SiLU(norm(x))``."""
    return b.unary(Function.SILU, apply(norm, b, x))


def _through(b: Builder, hidden: Iterable[Linear], norms: Iterable[RMSNorm], x: Value) -> Value:
    for linear, norm in zip(hidden, norms, strict=True):
        x = activated(b, norm, apply(linear, b, x))
    return x


@apply.register
def _(module: Trunk, b: Builder, x: Value) -> Value:
    check_fields(module, "hidden", "norms")
    return _through(b, module.hidden, module.norms, x)


@apply.register
def _(module: MLP, b: Builder, x: Value) -> Value:
    check_fields(module, "hidden", "norms", "out", "skip", "products")
    if module.products is not None:
        x = b.concat(x, apply(module.products, b, x))
    y = apply(module.out, b, _through(b, module.hidden, module.norms, x))
    return y if module.skip is None else b.add(y, apply(module.skip, b, x))


@apply.register
def _(module: Products, b: Builder, x: Value) -> Value:
    check_fields(module, "linear")
    return b.multiply(*b.split(apply(module.linear, b, x), 2))


@apply.register
def _(module: TanhMLP, b: Builder, x: Value) -> Value:
    check_fields(module, "weights", "biases")
    *hidden, (last, bias) = zip(module.weights, module.biases, strict=True)
    for weight, offset in hidden:
        x = b.unary(Function.TANH, b.dense(x, host(weight), host(offset)))
    return b.dense(x, host(last), host(bias))


@apply.register
def _(module: ImageEncoder, b: Builder, x: Value) -> Value:
    check_fields(module, "stages", "norms")
    x = b.affine(x, -127.5, 1.0 / 255.0)  # x / 255 - 1/2
    for stage, norm in zip(module.stages, module.norms, strict=True):
        x = activated(b, norm, apply(stage, b, x))
    return b.reshape(x, (x.size,))


@apply.register
def _(module: ConvDown, b: Builder, x: Value) -> Value:
    check_fields(module, "conv")
    check_fields(module.conv, "kernel", "bias")
    return b.max_pool(b.conv(x, host(module.conv.kernel), host(module.conv.bias)))


@apply.register
def _(module: PatchDown, b: Builder, x: Value) -> Value:
    check_fields(module, "linear", "size")
    return apply(module.linear, b, b.patches(x, module.size))


@apply.register
def _(module: FullGate, b: Builder, x: Value) -> Value:
    check_fields(module, "linear")
    value, gate = b.split(apply(module.linear, b, x), 2)
    return b.multiply(value, b.unary(Function.SIGMOID, gate))


@apply.register
def _(module: HalfGate, b: Builder, x: Value) -> Value:
    check_fields(module, "linear")
    return b.multiply(x, b.unary(Function.SIGMOID, apply(module.linear, b, x)))


@ft.singledispatch
def step_core(module: Any, b: Builder, memory: Value, x: Value) -> tuple[Value, Value]:
    """One step of a sequence core: the flat memory after it, and its output."""
    raise ConfigError(
        f"export knows no core {type(module).__name__}; add a rule for it to s5wm.deploy.layers"
    )


@step_core.register
def _(module: S5, b: Builder, memory: Value, x: Value) -> tuple[Value, Value]:
    check_fields(module, "project", "blocks", "norm")
    h = x if module.project is None else apply(module.project, b, x)
    states: list[Value] = []
    for state, block in zip(b.split(memory, len(module.blocks)), module.blocks, strict=True):
        check_fields(block, "norm", "ssm", "gate")
        state, y = _step_ssm(block.ssm, b, state, apply(block.norm, b, h))
        h = b.add(h, apply(block.gate, b, b.unary(Function.GELU, y)))
        states.append(state)
    return b.concat(*states), apply(module.norm, b, h)


def _step_ssm(ssm: DiagonalSSM, b: Builder, state: Value, u: Value) -> tuple[Value, Value]:
    """``x' = Lambda_bar x + B_bar u`` and ``y = 2 Re(C x') + D u``, the discretisation folded into the matrices."""
    check_fields(ssm, "nu", "omega", "log_dt", "b", "c", "d", "options")
    _check_options(ssm.options)
    decay, b_bar = ssm.discretize()
    drive = b.dense(u, _woven(host(b_bar.re), host(b_bar.im)))
    state = b.recurrence(state, drive, _woven(host(decay.re), host(decay.im)))
    read = _woven(host(2.0 * ssm.c.re).T, host(-2.0 * ssm.c.im).T).T
    y = b.dense(state, read)
    return state, b.add(y, b.affine(u, 0.0, host(ssm.d)))


def _check_options(options: SSMOptions) -> None:
    # Neither the discretisation nor how sequences are scanned is left in a single step.
    check_fields(options, "discretization", "scan_method", "gemm_dtype")
    if options.gemm_dtype is not GemmDtype.FLOAT32:
        raise ConfigError(
            f"core.gemm_dtype is {options.gemm_dtype.value!r}; an exported policy computes in float32: train with "
            "gemm_dtype float32"
        )


def _woven(re: Weights, im: Weights) -> Weights:
    """Rows of ``re`` and ``im`` in turn: ``[P, ...]`` and ``[P, ...]`` to ``[2 P, ...]``."""
    return np.stack([re, im], axis=1).reshape(2 * re.shape[0], *re.shape[1:])


@step_core.register
def _(module: BlockGRU, b: Builder, memory: Value, x: Value) -> tuple[Value, Value]:
    known = (
        "hidden",
        "hidden_norm",
        "dyn",
        "dyn_hidden",
        "dyn_input",
        "dyn_norm",
        "gates",
        "gate_bias",
        "unroll",
    )
    check_fields(module, *known)
    hidden = activated(b, module.hidden_norm, apply(module.hidden, b, memory))
    mixed = b.add(b.block_dense(memory, host(module.dyn.weight)), b.dense(hidden, host(module.dyn_hidden)))
    mixed = activated(b, module.dyn_norm, b.add(mixed, apply(module.dyn_input, b, x)))
    reset, candidate, update = (
        b.affine(b.block_dense(mixed, weight), bias, 1.0) for weight, bias in _gates(module)
    )
    candidate = b.unary(Function.TANH, b.multiply(b.unary(Function.SIGMOID, reset), candidate))
    update = b.unary(Function.SIGMOID, b.affine(update, -1.0, 1.0))
    kept = b.multiply(b.affine(update, -1.0, -1.0), memory)  # (1 - f) h
    h = b.add(b.multiply(update, candidate), kept)
    return h, h


def _gates(module: BlockGRU) -> list[tuple[Weights, Weights]]:
    """Weights ``[G, share, share]`` and biases ``[D]`` of reset, candidate and update."""
    weight, bias = host(module.gates.weight), host(module.gate_bias)
    cuts = np.linspace(0, weight.shape[1], 4).astype(int)
    return [(weight[:, i:j], bias[:, i:j].reshape(-1)) for i, j in itertools.pairwise(cuts)]
