import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s5wm.diagnostics.statistics import UNKNOWN, Agreement, Band, auc, deviation, with_gaps


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=12, max_size=12))
def test_auc_is_the_share_of_pairs_in_order(samples: list[tuple[int, bool, bool]]) -> None:
    positive = [score for score, label, valid in samples if label and valid]
    negative = [score for score, label, valid in samples if not label and valid]
    score, label, valid = (jnp.asarray(column) for column in zip(*samples, strict=True))
    found = float(auc(score.astype(jnp.float32), label, valid))
    if not positive or not negative:
        assert np.isnan(with_gaps(jnp.asarray(found)))
        return
    wins = [0.5 * (p == n) + (p > n) for p in positive for n in negative]
    assert found == pytest.approx(np.mean(wins), abs=1e-6)


def test_a_deviation_is_that_of_the_valid_rows_and_unknown_without_one() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    valid = np.arange(30) < 20
    expected = np.sqrt((rows[:20].std(0) ** 2).sum())
    assert float(deviation(jnp.asarray(rows), jnp.asarray(valid))) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(with_gaps(deviation(jnp.asarray(rows), jnp.zeros(30, bool))))


def test_a_band_skips_what_is_not_there() -> None:
    samples = np.random.default_rng(0).random((41, 2)).astype(np.float32)
    padded = np.concatenate([samples, np.full((9, 2), 7.0, np.float32)])
    padded = np.concatenate([padded, np.full((50, 1), 7.0, np.float32)], axis=1)
    valid = np.arange(50)[:, None] < np.array([41, 41, 0])
    order = np.random.default_rng(1).permutation(50)
    band = with_gaps(Band.of(jnp.asarray(padded[order]), jnp.asarray(valid[order])))
    for found, quantile in ((band.lo, 0.05), (band.median, 0.5), (band.hi, 0.95)):
        assert found[:2] == pytest.approx(np.quantile(samples, quantile, axis=0), abs=1e-6)
        assert np.isnan(found[2])


def test_a_band_of_a_single_sample_is_that_sample() -> None:
    band = Band.of(jnp.asarray([[5.0], [2.0]]), jnp.asarray([[False], [True]]))
    assert (band.lo, band.median, band.hi) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_sample_that_diverged_is_the_largest_one(bad: float) -> None:
    """It moves no other quantile, however many samples are not valid."""
    samples = np.array([[1.0], [bad], [2.0], [3.0], [4.0], [7.0], [7.0]], np.float32)
    valid = np.arange(7)[:, None] < 5
    band = with_gaps(jax.jit(Band.of)(jnp.asarray(samples), jnp.asarray(valid)))
    assert band.median[0] == 3.0
    assert band.lo[0] == pytest.approx(1.2)
    assert band.hi[0] == np.inf
    half = with_gaps(Band.of(jnp.asarray(samples[:2]), jnp.ones((2, 1), bool)))
    assert half.lo[0] == half.median[0] == half.hi[0] == np.inf  # between 1 and infinity
    all_bad = with_gaps(Band.of(jnp.full((3, 1), bad), jnp.ones((3, 1), bool)))
    assert all_bad.median[0] == np.inf and all_bad.hi[0] == np.inf


def test_gaps_are_filled_in_floats_alone() -> None:
    filled = with_gaps({"float": jnp.asarray([UNKNOWN, 1.0]), "count": jnp.asarray(3)})
    np.testing.assert_array_equal(filled["float"], np.array([np.nan, 1.0], np.float32))
    assert filled["float"].dtype == np.float32
    assert filled["count"] == 3


def test_agreement_of_valid_samples() -> None:
    rng = np.random.default_rng(1)
    real, valid = rng.normal(size=(60, 1)), rng.random((60, 1)) < 0.7
    predicted = np.where(valid, 2.0 * real + 1.0 + 0.3 * rng.normal(size=(60, 1)), 1e6)
    found = Agreement.of(
        jnp.asarray(predicted, jnp.float32), jnp.asarray(real, jnp.float32), jnp.asarray(valid)
    )
    x, y = predicted[valid], real[valid]
    assert found.count[0] == valid.sum()
    assert found.bias[0] == pytest.approx(x.mean() - y.mean(), rel=1e-4)
    assert found.correlation[0] == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-4)
    assert found.r2[0] == pytest.approx(1 - np.mean((x - y) ** 2) / y.var(), rel=1e-4)


def test_what_cannot_be_said_is_nan() -> None:
    nothing = with_gaps(Agreement.of(jnp.ones((3, 1)), jnp.ones((3, 1)), jnp.zeros((3, 1), bool)))
    assert np.isnan(nothing.real[0])
    constant = with_gaps(Agreement.of(jnp.ones((3, 1)), jnp.ones((3, 1)), jnp.ones((3, 1), bool)))
    assert np.isnan(constant.r2[0])
    assert np.isnan(constant.correlation[0])
    assert constant.bias[0] == 0
