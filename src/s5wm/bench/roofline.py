"""How far a program is from what its device could do: arithmetic of the traced program, ceilings measured here.

    t >= max(F / peak, M / bandwidth),   F: flops of matrix products and convolutions,   M: their traffic

XLA's own cost analysis counts the body of a loop once however often it runs, so the traced program is walked instead,
scans counted as often as they turn.  ``M`` lets every product read its operands and write its result once and nothing
else move, which caches and fusion can undercut and elementwise work exceeds: an estimate, not a law.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

REPEATS = 5


@dataclass(frozen=True)
class Work:
    """What a program does at least."""

    flops: float  # of matrix products and convolutions; a multiplication and an addition are two
    traffic: float  # bytes

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.traffic + other.traffic)

    def times(self, count: int) -> "Work":
        """Of so many turns of a loop."""
        return Work(count * self.flops, count * self.traffic)


NOTHING = Work(0.0, 0.0)


@dataclass(frozen=True)
class Ceilings:
    """Of one device: the best of a few tries."""

    flops_per_s: float  # float32 product of large square matrices
    bytes_per_s: float  # read and written by a copy that no cache holds

    def bound_ms(self, work: Work) -> float:
        """The least time that so much work can take."""
        return 1000 * max(work.flops / self.flops_per_s, work.traffic / self.bytes_per_s)


def work_of(function: Callable[..., Any], *args: Any) -> Work:
    """Of a traced call; nothing is compiled or run.  ``while`` loops are refused: nobody knows their turns."""
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def measure_ceilings(*, width: int | None = None, megabytes: int | None = None) -> Ceilings:
    """A second or two; larger on an accelerator, whose launches would hide the rest."""
    large = jax.default_backend() != "cpu"
    width = width or (8192 if large else 1536)
    count = 250_000 * (megabytes or (4096 if large else 512))
    matrix = jnp.ones((width, width), jnp.float32)
    vector = jnp.ones((count,), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    copy = jax.jit(lambda x: x + 1.0)
    return Ceilings(
        flops_per_s=2.0 * width**3 / _best_seconds(product, matrix),
        bytes_per_s=8.0 * count / _best_seconds(copy, vector),
    )


def _best_seconds(function: Callable[[jax.Array], jax.Array], argument: jax.Array) -> float:
    taken: list[float] = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        jax.block_until_ready(function(argument))
        taken.append(time.perf_counter() - begun)
    return min(taken[1:])


def _of_jaxpr(jaxpr: Jaxpr) -> Work:
    return sum((_of_equation(equation) for equation in jaxpr.eqns), NOTHING)


def _of_equation(equation: JaxprEqn) -> Work:
    name = equation.primitive.name
    if name == "dot_general":
        return _product(equation, _contracted(equation))
    if name == "conv_general_dilated":
        return _product(equation, _kernel_size(equation))
    if name == "while":
        raise ValueError(
            "a while loop has no fixed number of turns, so its work cannot be counted; use a scan"
        )
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inner(equation)]
    if name == "cond":
        return max(inner, key=lambda work: work.flops)
    return sum(inner, NOTHING).times(equation.params["length"] if name == "scan" else 1)


def _product(equation: JaxprEqn, depth: int) -> Work:
    moved = [*equation.invars, *equation.outvars]
    traffic = sum(_size(x) * _itemsize(x) for x in moved)
    return Work(2.0 * _size(equation.outvars[0]) * depth, float(traffic))


def _contracted(equation: JaxprEqn) -> int:
    (axes, _), _ = equation.params["dimension_numbers"]
    return math.prod(_shape(equation.invars[0])[axis] for axis in axes)


def _kernel_size(equation: JaxprEqn) -> int:
    """Products per output: all of the kernel but its output features."""
    kernel = _shape(equation.invars[1])
    return math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _size(variable: Any) -> int:
    return math.prod(_shape(variable))


def _itemsize(variable: Any) -> int:
    return variable.aval.dtype.itemsize


def _inner(equation: JaxprEqn) -> list[Jaxpr]:
    """Programs inside an equation: bodies of loops, branches, calls."""
    found: list[Jaxpr] = []
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, Jaxpr):
                found.append(item)
    return found
