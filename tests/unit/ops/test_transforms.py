"""Symlog and two-hot encoding (method specification, property test 21)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s5wm.ops.distributions import TwoHot
from s5wm.ops.transforms import symexp, symexp_bins, symlog, two_hot, two_hot_mean

BINS = symexp_bins(20.0, 255)


@given(st.floats(-1e6, 1e6, width=32))
def test_symexp_inverts_symlog(x):
    assert symexp(symlog(jnp.float32(x))) == pytest.approx(x, rel=1e-4, abs=1e-6)
    assert symlog(jnp.float32(-x)) == -symlog(jnp.float32(x))


def test_bins_are_symmetric_and_evenly_spaced_in_symlog():
    np.testing.assert_array_equal(BINS, -BINS[::-1])
    assert BINS[127] == 0.0
    np.testing.assert_allclose(np.diff(symlog(BINS)), 40 / 254, rtol=1e-3)


@given(st.floats(-100.0, 100.0, width=32))
def test_encoding_and_decoding_is_the_identity_between_bins(x):
    weights = two_hot(jnp.float32(x), BINS)
    assert two_hot_mean(weights, BINS) == pytest.approx(x, rel=1e-4, abs=1e-5)
    held = np.flatnonzero(weights)
    assert len(held) <= 2 and held[-1] - held[0] <= 1
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert weights.min() >= 0.0


@pytest.mark.parametrize("index", [0, 1, 126, 127, 128, 253, 254])
def test_a_bin_is_encoded_by_itself(index):
    np.testing.assert_allclose(two_hot(BINS[index], BINS), np.eye(255)[index], atol=1e-6)


def test_what_lies_outside_goes_to_the_outermost_bin():
    np.testing.assert_array_equal(two_hot(jnp.array([-1e30, 1e30]), BINS), np.eye(255)[[0, 254]])


def test_equal_logits_mean_exactly_zero():
    for logits in (jnp.zeros((3, 255)), jnp.full(255, 7.0)):
        assert np.all(TwoHot(logits, BINS).mean() == 0.0)


@pytest.mark.parametrize("target", [-30.0, -0.01, 0.0, 0.37, 5.0])
def test_the_loss_is_least_at_the_encoding_of_the_target(target):
    target = jnp.float32(target)
    encoded = two_hot(target, BINS)
    gradient = jax.grad(lambda logits: TwoHot(logits, BINS).log_prob(target))(jnp.log(encoded + 1e-12))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
    best = TwoHot(jnp.log(encoded + 1e-12), BINS)
    assert best.mean() == pytest.approx(float(target), rel=1e-3, abs=1e-4)
    for other in (-1.0, 0.1, 2.0):
        worse = TwoHot(jnp.log(two_hot(target + other, BINS) + 1e-12), BINS)
        assert worse.log_prob(target) < best.log_prob(target)
