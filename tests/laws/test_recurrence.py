"""Laws of the resettable recurrence: every form equals the naive loop, forgets at resets and differentiates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s5wm.ops.pairs import ComplexPair
from s5wm.ops.recurrence import FORMS, ScanMethod, compose, linear_recurrence

METHODS = list(FORMS)
P = 3


def naive(
    decay: np.ndarray, b: np.ndarray, x0: np.ndarray, first: np.ndarray, x_init: np.ndarray
) -> np.ndarray:
    x, states = x0, []
    for t in range(b.shape[0]):
        x = decay * (x_init if first[t] else x) + b[t]
        states.append(x)
    return np.stack(states)


def pair(array: np.ndarray) -> ComplexPair:
    return ComplexPair(jnp.asarray(array.real), jnp.asarray(array.imag))


def whole(x: ComplexPair) -> np.ndarray:
    out = np.empty(x.re.shape, complex)  # not re + 1j * im, where an infinity warns
    out.real, out.imag = x.re, x.im
    return out


def draw(seed: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Decay inside the unit circle, inputs, carried state, reset state."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape) + 1j * rng.normal(size=shape)  # noqa: E731
    decay = rng.uniform(0.5, 1.0, P) * np.exp(1j * rng.uniform(-3, 3, P))
    return decay, normal(length, P), normal(P), normal(P)


def patterns(length: int) -> np.ndarray:
    """None, all, first only, last only, consecutive, sparse and dense random resets."""
    rng = np.random.default_rng(length)
    t = np.arange(length)
    consecutive = (t >= length // 2) & (t < length // 2 + 3)
    rows = [
        t < 0,
        t >= 0,
        t == 0,
        t == length - 1,
        consecutive,
        rng.random(length) < 0.1,
        rng.random(length) < 0.5,
    ]
    return np.stack(rows)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 65, 257])
def test_equals_the_naive_loop(x64: None, method: ScanMethod, length: int) -> None:
    decay, b, x0, x_init = draw(length, length)
    flags = patterns(length)
    for start in (x_init, 0 * x_init):
        scan = jax.vmap(lambda f: linear_recurrence(pair(decay), pair(b), pair(x0), f, method, pair(start)))  # noqa: B023
        got = whole(jax.jit(scan)(jnp.asarray(flags)))
        for row, first in zip(got, flags, strict=True):
            np.testing.assert_allclose(row, naive(decay, b, x0, first, start), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_is_close(method: ScanMethod) -> None:
    length = 257
    decay, b, x0, x_init = draw(1, length)
    flags = patterns(length)
    decay32, b32, x32 = (jax.tree.map(lambda a: a.astype(jnp.float32), pair(v)) for v in (decay, b, x0))
    got = jax.jit(jax.vmap(lambda f: linear_recurrence(decay32, b32, x32, f, method)))(jnp.asarray(flags))
    assert got.re.dtype == jnp.float32
    for row, first in zip(whole(got), flags, strict=True):
        expected = naive(decay, b, x0, first, 0 * x_init)
        assert np.abs(row - expected).max() < 1e-4 * np.abs(expected).max()


def test_auto_is_one_of_the_forms() -> None:
    decay, b, x0, _ = draw(2, 9)
    first = jnp.asarray(patterns(9)[5])
    got = linear_recurrence(pair(decay), pair(b), pair(x0), first)
    np.testing.assert_allclose(
        whole(got), naive(decay, b, x0, np.asarray(first), 0 * x0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("flags", range(8))
def test_composition_is_associative(x64: None, flags: int) -> None:
    decay, b, _, x_init = draw(flags, 3)
    elements = []
    for t in range(3):
        reset = bool(flags >> t & 1)
        a_t = 0 * decay if reset else decay
        b_t = b[t] + (decay * x_init if reset else 0)  # a non-zero reset state is part of the input
        elements.append((pair(a_t), pair(b_t), jnp.full(1, reset)))
    first, second, third = elements
    left = compose(compose(first, second), third)
    right = compose(first, compose(second, third))
    np.testing.assert_allclose(whole(left[0]), whole(right[0]), atol=1e-14)
    np.testing.assert_allclose(whole(left[1]), whole(right[1]), atol=1e-14)
    assert bool(left[2][0]) == bool(right[2][0])


@given(seed=st.integers(0, 10**6), cut=st.integers(1, 11), method=st.sampled_from(METHODS))
def test_splitting_changes_nothing(seed: int, cut: int, method: ScanMethod) -> None:
    decay, b, x0, _ = draw(seed, 12)
    first = np.random.default_rng(seed).random(12) < 0.2
    run = COMPILED[method]
    together = whole(run(pair(decay), pair(b), pair(x0), jnp.asarray(first)))
    # The second part is padded in front and the first behind, so that one compiled program serves every cut.
    head = np.concatenate([b[:cut], 0 * b[cut:]])
    part = whole(run(pair(decay), pair(head), pair(x0), jnp.asarray(first)))
    np.testing.assert_allclose(part[:cut], together[:cut], atol=1e-4)
    tail = np.concatenate([b[cut:], 0 * b[:cut]])
    rolled = np.concatenate([first[cut:], first[:cut]])
    rest = whole(run(pair(decay), pair(tail), pair(part[cut - 1]), jnp.asarray(rolled)))
    np.testing.assert_allclose(rest[: 12 - cut], together[cut:], atol=1e-4)


COMPILED: dict[ScanMethod, Callable[..., ComplexPair]] = {
    method: jax.jit(lambda *args, method=method: linear_recurrence(*args, method)) for method in METHODS
}


def loss(x: ComplexPair, weight: np.ndarray) -> jax.Array:
    return jnp.sum(jnp.sin(x.re) * weight.real + jnp.cos(x.im) * weight.imag)


@pytest.mark.parametrize("method", METHODS)
def test_segments_are_separate_scans(x64: None, method: ScanMethod) -> None:
    decay, b, x0, x_init = draw(5, 13)
    weight = draw(6, 13)[1]
    bounds = [0, 4, 5, 13]
    first = np.isin(np.arange(13), bounds[1:])

    def packed(decay: ComplexPair, b: ComplexPair, x_init: ComplexPair) -> jax.Array:
        return loss(linear_recurrence(decay, b, pair(x0), jnp.asarray(first), method, x_init), weight)

    def apart(decay: ComplexPair, b: ComplexPair, x_init: ComplexPair) -> jax.Array:
        total = jnp.zeros(())
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            carried = pair(x0) if start == 0 else x_init
            plain = jnp.zeros(stop - start, bool)
            total += loss(linear_recurrence(decay, b[start:stop], carried, plain, method), weight[start:stop])
        return total

    arguments = (pair(decay), pair(b), pair(x_init))
    one = jax.jit(jax.value_and_grad(packed, (0, 1, 2)))(*arguments)
    many = jax.jit(jax.value_and_grad(apart, (0, 1, 2)))(*arguments)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_gradients(x64: None, method: ScanMethod) -> None:
    """Own reverse rule == autodiff of the form == finite differences, in every argument."""
    decay, b, x0, x_init = draw(7, 11)
    weight = draw(8, 11)[1]
    first = jnp.asarray(np.isin(np.arange(11), (3, 4, 10)))

    def own(decay: ComplexPair, b: ComplexPair, x0: ComplexPair, x_init: ComplexPair) -> jax.Array:
        return loss(linear_recurrence(decay, b, x0, first, method, x_init), weight)

    def plain(decay: ComplexPair, b: ComplexPair, x0: ComplexPair, x_init: ComplexPair) -> jax.Array:
        b = b + (decay * x_init)[None].masked(~first[:, None])
        return loss(FORMS[method](decay, b, x0, first), weight)

    arguments = (pair(decay), pair(b), pair(x0), pair(x_init))
    got = jax.jit(jax.grad(own, (0, 1, 2, 3)))(*arguments)
    expected = jax.jit(jax.grad(plain, (0, 1, 2, 3)))(*arguments)
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-12)
    value = jax.jit(own)
    leaves, structure = jax.tree.flatten(arguments)
    directions = [
        jr.normal(key, leaf.shape) for key, leaf in zip(jr.split(jr.key(0), 8), leaves, strict=True)
    ]
    moved = [
        structure.unflatten([a + s * d for a, d in zip(leaves, directions, strict=True)])
        for s in (1e-6, -1e-6)
    ]
    slope = (value(*moved[0]) - value(*moved[1])) / 2e-6
    dot = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(got), directions, strict=True))
    np.testing.assert_allclose(slope, dot, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("poison", [1e30, np.inf, np.nan])
def test_nothing_crosses_a_reset(method: ScanMethod, poison: float) -> None:
    decay, b, x0, _ = draw(9, 12)
    first = jnp.asarray(np.arange(12) == 6)
    dirty = b.copy()
    dirty[5] = complex(poison, poison)

    def after(decay: ComplexPair, b: ComplexPair, x0: ComplexPair) -> tuple[jax.Array, ComplexPair]:
        x = linear_recurrence(decay, b, x0, first, method)
        return jnp.sum(jnp.sin(x.re[6:]) + x.im[6:] ** 2), x

    run = jax.jit(jax.value_and_grad(after, (1, 2), has_aux=True))
    (_, clean_x), clean_g = run(pair(decay), pair(b), pair(x0))
    (_, dirty_x), dirty_g = run(pair(decay), pair(dirty), pair(x0))
    np.testing.assert_array_equal(whole(clean_x)[6:], whole(dirty_x)[6:])
    assert not np.array_equal(whole(clean_x)[5], whole(dirty_x)[5])
    for left, right in zip(jax.tree.leaves(clean_g), jax.tree.leaves(dirty_g), strict=True):
        np.testing.assert_array_equal(left, right)
    g_b, g_x0 = dirty_g
    assert not np.any(whole(g_b)[:6])
    assert not np.any(whole(g_x0))
    assert np.all(whole(g_b)[6:] != 0)  # a reset keeps the input of its own step
