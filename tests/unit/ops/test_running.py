"""Running statistics (method specification, property test 27)."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.ops.running import ReturnScale, RunningMoments


def test_moments_of_a_stream_are_those_of_all_samples():
    batches = [
        3.0 + 2.0 * jr.normal(jr.key(i), shape) for i, shape in enumerate([(5, 3), (2, 4, 3), (50, 3)])
    ]
    moments = RunningMoments.init(3)
    for batch in batches:
        moments = moments.update(batch)
    samples = np.concatenate([np.asarray(b).reshape(-1, 3) for b in batches])
    np.testing.assert_allclose(moments.mean, samples.mean(0), rtol=1e-3)
    np.testing.assert_allclose(moments.var, samples.var(0), rtol=1e-3)
    normal = moments.normalise(jnp.asarray(samples))
    np.testing.assert_allclose(normal.mean(0), 0.0, atol=1e-2)
    np.testing.assert_allclose(normal.std(0), 1.0, rtol=1e-2)


def test_normalised_values_are_clipped():
    moments = RunningMoments(jnp.zeros(1), jnp.ones(1), jnp.float32(100.0))
    np.testing.assert_array_equal(
        moments.normalise(jnp.array([[1e9], [-1e9], [3.0]])), [[10.0], [-10.0], [3.0]]
    )


def test_a_constant_stream_divides_by_no_zero():
    moments = RunningMoments.init(2)
    for _ in range(3):
        moments = moments.update(jnp.full((8, 2), 4.0))
    assert np.all(np.isfinite(moments.normalise(jnp.full((8, 2), 4.0))))


def converged(returns):
    return jax.lax.fori_loop(0, 2000, lambda _, scale: scale.update(returns), ReturnScale.init())


def test_the_scale_of_constant_and_of_small_returns_is_one():
    assert converged(jnp.full(100, 37.0)).value == pytest.approx(1.0, abs=1e-4)
    assert converged(jnp.linspace(-0.1, 0.1, 100)).value == 1.0


def test_the_scale_of_large_returns_is_proportional_and_ignores_outliers():
    returns = jnp.linspace(0.0, 10.0, 101)
    assert converged(returns).value == pytest.approx(9.0, rel=1e-3)
    assert converged(2 * returns).value == pytest.approx(18.0, rel=1e-3)
    assert converged(returns.at[-1].set(1e6)).value == pytest.approx(9.0, rel=0.02)


def test_the_scale_moves_by_a_hundredth_and_is_not_debiased():
    scale = ReturnScale.init().update(jnp.linspace(0.0, 1000.0, 101))
    assert scale.low == pytest.approx(0.5, rel=1e-4)
    assert scale.high == pytest.approx(9.5, rel=1e-4)
