"""Returns against sums written out by hand (method specification, property test 25)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.ops.returns import gae, lambda_return

ROWS = 7


@pytest.fixture
def rows():
    """Rewards, continues (with discount) and values of one sequence."""
    rng = np.random.default_rng(0)
    return rng.normal(size=ROWS), 0.9 * rng.uniform(0.5, 1.0, ROWS), rng.normal(size=ROWS)


def compute(reward, cont, value, bootstrap, lambda_):
    arrays = [jnp.asarray(x, jnp.float32) for x in (reward, cont, value, bootstrap)]
    return np.asarray(lambda_return(*arrays, lambda_))


def n_step(reward, cont, value, bootstrap, t, n):
    """Rewards of the n steps after t, then the value there; what lies past the end is the bootstrap."""
    total, weight = 0.0, 1.0
    for k in range(t + 1, t + n + 1):
        total += weight * reward[k]
        weight *= cont[k]
    return total + weight * (bootstrap if t + n == ROWS - 1 else value[t + n])


def test_lambda_return_is_the_mixture_of_n_step_returns(rows):
    """``(1 - l) sum_n l^(n-1) G_n``, the last one taking the rest of the weight."""
    reward, cont, value = rows
    lambda_, bootstrap = 0.8, value[-1]
    returns = compute(reward, cont, value, bootstrap, lambda_)
    for t in range(ROWS - 1):
        longest = ROWS - 1 - t
        expected = sum(
            (1 - lambda_) * lambda_ ** (n - 1) * n_step(reward, cont, value, bootstrap, t, n)
            for n in range(1, longest)
        ) + lambda_ ** (longest - 1) * n_step(reward, cont, value, bootstrap, t, longest)
        np.testing.assert_allclose(returns[t], expected, rtol=1e-4, atol=1e-5)


def test_lambda_zero_looks_one_step_ahead(rows):
    reward, cont, value = rows
    returns = compute(reward, cont, value, 5.0, 0.0)
    np.testing.assert_allclose(returns, reward[1:] + cont[1:] * value[1:], rtol=1e-5)


def test_lambda_one_is_the_discounted_sum_and_the_bootstrap(rows):
    reward, cont, value = rows
    returns = compute(reward, cont, value, 5.0, 1.0)
    expected = [n_step(reward, cont, value, 5.0, t, ROWS - 1 - t) for t in range(ROWS - 1)]
    np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_seen_past_an_end(rows):
    """A continue of 0 at row 3: its reward counts, nothing after it does."""
    reward, cont, value = rows
    cont[3] = 0.0
    before = compute(reward, cont, value, value[-1], 0.9)
    after = compute(
        np.where(np.arange(ROWS) > 3, 100.0, reward),
        cont,
        np.where(np.arange(ROWS) >= 3, -50.0, value),
        9.0,
        0.9,
    )
    np.testing.assert_array_equal(before[:3], after[:3])
    assert before[2] == pytest.approx(reward[3], rel=1e-5)


def test_a_lambda_of_zero_bootstraps_from_its_row(rows):
    """How truncation is written: the value of row 3 stands for everything after it."""
    reward, cont, value = rows
    lambdas = jnp.full(ROWS, 0.9).at[3].set(0.0)
    returns = compute(reward, cont, value, value[-1], lambdas)
    assert returns[2] == pytest.approx(reward[3] + cont[3] * value[3], rel=1e-5)
    moved = compute(np.where(np.arange(ROWS) > 3, 100.0, reward), cont, value, value[-1], lambdas)
    np.testing.assert_array_equal(returns[:3], moved[:3])


def test_the_first_row_is_where_the_action_was_taken_not_paid(rows):
    """Reward, continue and value of row 0 are those of an earlier action."""
    reward, cont, value = rows
    before = compute(reward, cont, value, 1.0, 0.9)
    for moved in ((reward + np.eye(ROWS)[0], cont, value), (reward, cont * (np.arange(ROWS) > 0), value)):
        np.testing.assert_array_equal(before, compute(*moved, 1.0, 0.9))
    later = compute(reward + np.eye(ROWS)[1], cont, value, 1.0, 0.9)
    np.testing.assert_allclose(later - before, np.eye(ROWS - 1)[0], atol=1e-5)


def advantages(reward, value, *, last=(), terminal=(), discount=0.9, lambda_=0.95):
    flags = [jnp.isin(jnp.arange(ROWS), jnp.array(rows, jnp.int32)) for rows in (last, terminal)]
    arrays = [jnp.asarray(x, jnp.float32) for x in (reward, value)]
    return np.asarray(gae(*arrays, *flags, discount=discount, lambda_=lambda_))


def test_gae_is_the_decayed_sum_of_errors(rows):
    reward, _, value = rows
    delta = reward[1:] + 0.9 * value[1:] - value[:-1]
    expected = [sum((0.9 * 0.95) ** k * delta[t + k] for k in range(ROWS - 1 - t)) for t in range(ROWS - 1)]
    np.testing.assert_allclose(advantages(reward, value), expected, rtol=1e-4, atol=1e-5)


def test_gae_at_termination_drops_the_value_and_at_truncation_keeps_it(rows):
    reward, _, value = rows
    terminated = advantages(reward, value, last=(3,), terminal=(3,))
    truncated = advantages(reward, value, last=(3,))
    assert terminated[2] == pytest.approx(reward[3] - value[2], rel=1e-4)
    assert truncated[2] == pytest.approx(reward[3] + 0.9 * value[3] - value[2], rel=1e-4)
    for ended in ({"last": (3,), "terminal": (3,)}, {"last": (3,)}):
        moved = advantages(np.where(np.arange(ROWS) > 3, 100.0, reward), value, **ended)
        np.testing.assert_array_equal(advantages(reward, value, **ended)[:3], moved[:3])


def test_returns_are_differentiable_in_rewards(rows):
    """What ``dynamics`` gradients need."""
    reward, cont, value = (jnp.asarray(x, jnp.float32) for x in rows)
    gradient = jax.grad(lambda r: lambda_return(r, cont, value, value[-1], 1.0)[0])(reward)
    expected = np.concatenate([[0.0], np.cumprod(np.concatenate([[1.0], cont[1:-1]]))])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
