"""The resettable linear recurrence ``x_t = Lambda x_{t-1} + b_t`` with a constant diagonal ``Lambda``.

A reset (``is_first``) replaces ``x_{t-1}`` by ``x_init`` *before* the step and keeps ``b_t``:

    x_t = rho_t Lambda x_init + (1 - rho_t) Lambda x_{t-1} + b_t

Three forms compute the same thing; they differ in work, depth and what a machine likes.  Resets select
on the state instead of multiplying by zero, so nothing before a reset, NaN included, reaches past it.
"""

import enum
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from s5wm.ops.pairs import ComplexPair

# Steps per iteration of the sequential loop.  Unrolling does not pay on CPU: the recurrence itself gets slower
# with every doubling and compiles longer (benchmarks/scan.py, results/scan/cpu.json).
UNROLL = 1


class ScanMethod(enum.StrEnum):
    """How the recurrence is evaluated.  All give equal results (tests/laws)."""

    AUTO = "auto"  # the form measured fastest on the platform, chosen when the function is traced
    SEQUENTIAL = "sequential"  # work T, depth T
    ASSOCIATIVE = "associative"  # work about 5 T, depth 2 log2 T
    DOUBLING = "doubling"  # work T log2 T, depth log2 T, no array of transitions


def linear_recurrence(
    decay: ComplexPair,
    b: ComplexPair,
    x0: ComplexPair,
    is_first: Bool[Array, " T"],
    method: ScanMethod = ScanMethod.AUTO,
    x_init: ComplexPair | None = None,
) -> ComplexPair:
    """States ``x_1..x_T`` (parts ``[T, P]``) of the recurrence above; ``vmap`` adds batch axes.

    ``decay`` is ``Lambda`` with parts ``[P]``, ``b`` has parts ``[T, P]``, ``x0`` (the state carried in)
    and ``x_init`` (what a reset starts from, zero by default) have parts ``[P]``.  Differentiable once, in
    reverse mode, in every argument but ``is_first``; the residual is the state sequence alone.
    """
    if x_init is not None:
        b = b + (decay * x_init)[None].masked(~is_first[:, None])
    return _recurrence(_resolve(method), decay, b, x0, is_first)


def _resolve(method: ScanMethod) -> ScanMethod:
    if method != ScanMethod.AUTO:
        return method
    return ScanMethod.SEQUENTIAL if jax.default_backend() == "cpu" else ScanMethod.ASSOCIATIVE


def sequential(
    decay: ComplexPair, b: ComplexPair, x0: ComplexPair, is_first: Bool[Array, " T"], *, reverse: bool = False
) -> ComplexPair:
    """One step after the other; only the elementwise update is inside the loop."""

    def step(x: ComplexPair, inputs: tuple[ComplexPair, Bool[Array, ""]]) -> tuple[ComplexPair, ComplexPair]:
        b_t, first = inputs
        x = decay * x.masked(first) + b_t
        return x, x

    return jax.lax.scan(step, x0, (b, is_first), reverse=reverse, unroll=UNROLL)[1]


Element = tuple[ComplexPair, ComplexPair, Bool[Array, "*t 1"]]


def compose(first: Element, second: Element) -> Element:
    """``(a1, b1, r1) . (a2, b2, r2) = (a2 a1, a2 b1 + b2, r1 | r2)``: the map of ``first``, then ``second``.

    An element is the affine map ``x -> a x + b`` and ``r`` says that it forgets ``x`` (``a = 0``), in which
    case ``a2 b1`` is dropped by a select rather than left to be zero times something.
    """
    a1, b1, reset1 = first
    a2, b2, reset2 = second
    return a2 * a1, (a2 * b1).masked(reset2) + b2, reset1 | reset2


def associative(
    decay: ComplexPair, b: ComplexPair, x0: ComplexPair, is_first: Bool[Array, " T"], *, reverse: bool = False
) -> ComplexPair:
    """``lax.associative_scan`` of affine maps; a reset is a zero transition."""
    reset = is_first[:, None]
    a = ComplexPair(jnp.broadcast_to(decay.re, b.re.shape), jnp.broadcast_to(decay.im, b.im.shape))
    elements = (a.masked(reset), _with_carry(decay, b, x0, reset, reverse), reset)
    return jax.lax.associative_scan(compose, elements, reverse=reverse)[1]


def doubling(
    decay: ComplexPair, b: ComplexPair, x0: ComplexPair, is_first: Bool[Array, " T"], *, reverse: bool = False
) -> ComplexPair:
    """For ``s = 1, 2, 4, ..``: ``x_t += (1 - F_t) Lambda^s x_{t-s}``, then ``F_t |= F_{t-s}``.

    After each round ``x_t`` sums the last ``2 s`` inputs and ``F_t`` is true if a reset lies among them.
    """
    blocked = is_first[:, None]
    x = _with_carry(decay, b, x0, blocked, reverse)
    power = decay
    stride = 1
    while stride < is_first.shape[0]:
        delay = partial(_delayed, by=stride, reverse=reverse)
        x = x + (power[None] * ComplexPair(delay(x.re), delay(x.im))).masked(blocked)
        blocked = blocked | delay(blocked)
        power = power * power
        stride *= 2
    return x


def _delayed(x: Array, *, by: int, reverse: bool) -> Array:
    """``x_{t-by}`` (``x_{t+by}`` in reverse), zero outside the sequence."""
    gap = jnp.zeros_like(x[:by])
    return jnp.concatenate([x[by:], gap] if reverse else [gap, x[:-by]])


def _with_carry(
    decay: ComplexPair, b: ComplexPair, x0: ComplexPair, reset: Bool[Array, "T 1"], reverse: bool
) -> ComplexPair:
    """Fold the state carried in into the first input."""
    edge = -1 if reverse else 0
    carried = (decay * x0).masked(reset[edge, 0])
    return ComplexPair(b.re.at[edge].add(carried.re), b.im.at[edge].add(carried.im))


FORMS: dict[ScanMethod, Callable[..., ComplexPair]] = {
    ScanMethod.SEQUENTIAL: sequential,
    ScanMethod.ASSOCIATIVE: associative,
    ScanMethod.DOUBLING: doubling,
}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(
    method: ScanMethod, decay: ComplexPair, b: ComplexPair, x0: ComplexPair, is_first: Bool[Array, " T"]
) -> ComplexPair:
    return FORMS[method](decay, b, x0, is_first)


Residuals = tuple[ComplexPair, ComplexPair, ComplexPair, Bool[Array, " T"]]


def _forward(
    method: ScanMethod, decay: ComplexPair, b: ComplexPair, x0: ComplexPair, is_first: Bool[Array, " T"]
) -> tuple[ComplexPair, Residuals]:
    x = FORMS[method](decay, b, x0, is_first)
    return x, (decay, x, x0, is_first)


def _backward(
    method: ScanMethod, residuals: Residuals, x_bar: ComplexPair
) -> tuple[ComplexPair, ComplexPair, ComplexPair, None]:
    """The same recurrence backwards in time, with the flags moved by one.

    ``g_t = xbar_t + (1 - rho_{t+1}) conj(Lambda) g_{t+1}``; ``b_bar = g``;
    ``Lambda_bar = sum_t conj((1 - rho_t) x_{t-1}) g_t``; ``x0_bar = (1 - rho_0) conj(Lambda) g_0``.
    The conjugates are those of real-pair gradients.
    """
    decay, x, x0, is_first = residuals
    next_first = jnp.concatenate([is_first[1:], jnp.ones_like(is_first[:1])])
    zero = ComplexPair(jnp.zeros_like(x0.re), jnp.zeros_like(x0.im))
    g = FORMS[method](decay.conj(), x_bar, zero, next_first, reverse=True)
    previous = ComplexPair(
        jnp.concatenate([x0.re[None], x.re[:-1]]), jnp.concatenate([x0.im[None], x.im[:-1]])
    ).masked(is_first[:, None])
    product = previous.conj() * g
    decay_bar = ComplexPair(product.re.sum(0), product.im.sum(0))
    return decay_bar, g, (decay.conj() * g[0]).masked(is_first[0]), None


_recurrence.defvjp(_forward, _backward)
