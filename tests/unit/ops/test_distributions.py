"""Distributions against sampling, quadrature and each other."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.ops.distributions import (
    Bernoulli,
    Normal,
    NormalMixture,
    OneHot,
    OneHots,
    ScalarMixture,
    UnitNormal,
)

LOGITS = jnp.array([[2.0, 0.0, -1.0, 0.5], [0.0, 0.0, 0.0, 3.0]])


def test_choices_that_are_all_but_certain_have_finite_entropy_and_probabilities():
    dist = OneHots(jnp.array([0.0, 120.0, -1.0, 0.0, 300.0]), (2, 3), unimix=0.0)
    assert float(dist.entropy()) == pytest.approx(0.0, abs=1e-6)
    assert float(dist.log_prob(jnp.array([1.0, 0.0, 0.0, 0.0, 1.0]))) == pytest.approx(-120.0)
    slope = jax.grad(lambda logits: OneHots(logits, (2, 3), unimix=0.0).entropy())(dist.logits)
    assert np.isfinite(slope).all()


def test_unimix_keeps_every_class_alive():
    dist = OneHot(jnp.array([[1e4, 0.0, 0.0, -1e4]]))
    np.testing.assert_allclose(dist.probs, [[0.9925, 0.0025, 0.0025, 0.0025]], rtol=1e-5)
    assert np.isfinite(dist.entropy()) and np.isfinite(dist.kl(OneHot(-dist.logits)))


def test_one_hot_samples_are_one_hot_and_follow_the_probabilities():
    dist = OneHot(jnp.broadcast_to(LOGITS, (20000, 2, 4)))
    samples = dist.sample(jr.key(0))
    np.testing.assert_allclose(np.sort(samples, axis=-1)[..., -1], 1.0, atol=1e-6)
    np.testing.assert_allclose(samples.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(samples.mean(0), OneHot(LOGITS).probs, atol=0.015)


@pytest.mark.parametrize("uniform", [0.0, 0.999999, 1.0])
def test_the_ends_of_the_noise_give_a_class(uniform):
    sample = OneHot(LOGITS).sample_with(jnp.full(2, uniform))
    np.testing.assert_allclose(sample.max(-1), 1.0, atol=1e-6)


def test_samples_pass_the_gradient_of_the_probabilities_straight_through():
    weights = jnp.arange(8.0).reshape(2, 4)
    noise = jnp.array([0.3, 0.8])
    through = jax.grad(lambda logits: jnp.sum(weights * OneHot(logits).sample_with(noise)))(LOGITS)
    direct = jax.grad(lambda logits: jnp.sum(weights * OneHot(logits).probs))(LOGITS)
    np.testing.assert_allclose(through, direct, rtol=1e-5)
    assert np.abs(direct).max() > 0.1


def test_one_hot_measures_sum_over_the_groups():
    left, right = OneHot(LOGITS), OneHot(LOGITS[::-1])
    p, q = np.asarray(left.probs), np.asarray(right.probs)
    assert left.kl(right) == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-5)
    assert left.kl(left) == pytest.approx(0.0, abs=1e-6)
    assert left.entropy() == pytest.approx(-np.sum(p * np.log(p)), rel=1e-5)
    assert left.log_prob(left.mode()) == pytest.approx(np.log(p.max(-1)).sum(), rel=1e-5)
    np.testing.assert_array_equal(np.argmax(left.mode(), -1), [0, 3])


def test_normal_measures_agree_with_samples():
    left = Normal(jnp.array([0.3, -1.0]), jnp.array([0.5, 2.0]))
    right = Normal(jnp.array([0.0, 0.5]), jnp.array([1.0, 1.5]))
    samples = Normal(jnp.broadcast_to(left.loc, (40000, 2)), jnp.broadcast_to(left.scale, (40000, 2))).sample(
        jr.key(1)
    )
    log_left = jax.vmap(left.log_prob)(samples)
    log_right = jax.vmap(right.log_prob)(samples)
    assert left.kl(right) == pytest.approx(float((log_left - log_right).mean()), abs=0.03)
    assert left.entropy() == pytest.approx(float(-log_left.mean()), abs=0.03)
    assert left.kl(left) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(samples.mean(0), left.loc, atol=0.04)
    np.testing.assert_allclose(samples.std(0), left.scale, rtol=0.02)


def test_normal_density_integrates_to_one():
    x = jnp.linspace(-8.0, 8.0, 4001)[:, None]
    dist = Normal(jnp.array([0.4]), jnp.array([0.7]))
    assert jnp.exp(jax.vmap(dist.log_prob)(x)).sum() * (16.0 / 4000) == pytest.approx(1.0, abs=1e-4)


def test_bernoulli_is_stable_and_least_surprised_by_its_own_mean():
    assert np.all(np.isfinite(Bernoulli(jnp.array([200.0, -200.0])).log_prob(jnp.array([0.0, 1.0]))))
    gradient = jax.grad(lambda logit: Bernoulli(logit).log_prob(jax.nn.sigmoid(jnp.float32(1.3))))(
        jnp.float32(1.3)
    )
    assert gradient == pytest.approx(0.0, abs=1e-6)
    assert Bernoulli(jnp.float32(1.3)).mean() == pytest.approx(1 / (1 + np.exp(-1.3)), rel=1e-5)


MIXTURE = NormalMixture(
    jnp.log(jnp.array([0.7, 0.3])),
    jnp.array([[0.0, 1.0], [5.0, -4.0]]),
    jnp.array([[0.1, 0.2], [0.3, 0.1]]),
)


def test_mixture_samples_come_from_their_components_in_their_shares():
    k_noise, k_uniform = jr.split(jr.key(3))
    count = 20000
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), MIXTURE)
    samples = many.sample_with(jr.normal(k_noise, (count, 2)), jr.uniform(k_uniform, (count,)))
    second = samples[:, 0] > 2.5
    np.testing.assert_allclose(second.mean(), 0.3, atol=0.015)
    for index, rows in enumerate([~second, second]):
        np.testing.assert_allclose(samples[rows].mean(0), MIXTURE.loc[index], atol=0.02)
        np.testing.assert_allclose(samples[rows].std(0), MIXTURE.scale[index], atol=0.02)
    np.testing.assert_array_equal(MIXTURE.mode(), MIXTURE.loc[0])


@pytest.mark.parametrize("centre", [(0.05, 1.1), (5.1, -4.0), (2.5, -1.5)])
def test_kl_to_a_mixture_is_bounded_from_above_and_tightly_near_a_component(centre):
    count = 50000

    def many(loc, scale):
        return Normal(jnp.broadcast_to(loc, (count, 2)), jnp.broadcast_to(scale, (count, 2)))

    normal = Normal(jnp.array(centre), jnp.array([0.05, 0.05]))
    wide = many(normal.loc, normal.scale)
    samples = wide.sample(jr.key(4))
    log_pi = jax.nn.log_softmax(MIXTURE.logits)
    each = [many(MIXTURE.loc[k], MIXTURE.scale[k]).log_prob(samples) + log_pi[k] for k in range(2)]
    true = jnp.mean(wide.log_prob(samples) - jax.nn.logsumexp(jnp.stack(each), axis=0))
    bound = MIXTURE.kl_from(normal)
    assert bound >= true - 0.02 * abs(true)
    if centre[0] != 2.5:
        np.testing.assert_allclose(bound, true, rtol=0.02)


def test_a_mixture_of_one_is_a_normal():
    normal = Normal(jnp.array([0.3, -1.0]), jnp.array([0.5, 2.0]))
    one = NormalMixture(jnp.zeros(1), normal.loc[None], normal.scale[None])
    other = Normal(jnp.array([0.0, 0.5]), jnp.array([0.2, 0.4]))
    np.testing.assert_allclose(one.kl_from(other), other.kl(normal), rtol=1e-5)
    np.testing.assert_allclose(one.entropy_bound(), normal.entropy(), rtol=1e-5)


def test_beta_changes_gradients_alone_and_by_how_exact_an_entry_is():
    normal = Normal(jnp.array([0.3, -0.2]), jnp.array([0.05, 0.05]))

    def bound(loc, scale, logits, beta):
        return NormalMixture(logits, loc, scale).kl_from(normal, beta=beta)

    at = (MIXTURE.loc, MIXTURE.scale, MIXTURE.logits)
    np.testing.assert_allclose(bound(*at, 0.5), bound(*at, 0.0), rtol=1e-6)
    grads = jax.grad(bound, argnums=(0, 1, 2))
    plain, weighted = grads(*at, 0.0), grads(*at, 0.5)
    factor = MIXTURE.scale / 0.05
    np.testing.assert_allclose(weighted[0], factor * plain[0], rtol=1e-5)
    np.testing.assert_allclose(weighted[1], factor * plain[1], rtol=1e-5)
    np.testing.assert_allclose(weighted[2], plain[2], rtol=1e-5)
    nearly = grads(*at, 1e-9)
    for with_surrogate, without in zip(nearly, plain, strict=True):
        np.testing.assert_allclose(with_surrogate, without, rtol=1e-5)


GROUPS = (2, 3)
CHOICES = jnp.array([0.0, 1.0, 0.5, -1.0, 2.0])


def of_each(values: jnp.ndarray) -> list[np.ndarray]:
    return [np.asarray(values[:2], np.float64), np.asarray(values[2:], np.float64)]


def test_choices_are_independent_categoricals() -> None:
    dist = OneHots(CHOICES, GROUPS, unimix=0.1)
    expected = [0.9 * np.exp(x) / np.exp(x).sum() + 0.1 / len(x) for x in of_each(CHOICES)]
    np.testing.assert_allclose(dist.probs, np.concatenate(expected), rtol=1e-5)
    entropy = -sum(float((p * np.log(p)).sum()) for p in expected)
    assert float(dist.entropy()) == pytest.approx(entropy, rel=1e-5)
    assert dist.mode().tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]
    chosen = jnp.array([1.0, 0.0, 0.0, 1.0, 0.0])
    assert float(dist.log_prob(chosen)) == pytest.approx(
        float(np.log(expected[0][0] * expected[1][1])), rel=1e-5
    )


def test_choices_come_as_often_as_they_are_likely() -> None:
    dist = OneHots(jnp.broadcast_to(CHOICES, (4000, 5)), GROUPS)
    drawn = np.asarray(dist.sample(jr.key(0)))
    assert all((part.sum(-1) == 1.0).all() for part in (drawn[:, :2], drawn[:, 2:]))
    np.testing.assert_allclose(drawn.mean(0), dist.probs[0], atol=0.03)


def test_choices_have_the_gradient_of_their_probabilities() -> None:
    weight = jnp.array([1.0, -2.0, 3.0, 0.5, 1.5])

    def drawn(logits: jnp.ndarray) -> jnp.ndarray:
        return jnp.sum(weight * OneHots(logits, GROUPS).sample(jr.key(1)))

    def likely(logits: jnp.ndarray) -> jnp.ndarray:
        return jnp.sum(weight * OneHots(logits, GROUPS).probs)

    np.testing.assert_allclose(jax.grad(drawn)(CHOICES), jax.grad(likely)(CHOICES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("error", "loss"), [(0.0, 0.0), (0.5, 0.125), (-1.0, 0.5), (3.0, 4.5), (-100.0, 5e3)]
)
def test_a_unit_normal_is_squared_error(error, loss):
    dist = UnitNormal(jnp.array([2.0]))
    assert dist.mean()[0] == 2.0
    assert -dist.log_prob(jnp.array([2.0 + error]))[0] == pytest.approx(loss, rel=1e-6)
    slope = jax.grad(lambda loc: -UnitNormal(loc).log_prob(jnp.float32(2.0 + error)))(jnp.float32(2.0))
    assert slope == pytest.approx(-error, abs=1e-5)


def test_samples_are_of_components_that_are_not_too_unlikely():
    """The rarest has a chance of 0.5 %, the next one of 2 %; without the rarest they share 99.5 %."""
    chances = np.array([0.975, 0.005, 0.02])
    loc = jnp.array([[0.0], [50.0], [1.0]])
    dist = NormalMixture(jnp.log(jnp.asarray(chances)), loc, jnp.ones((3, 1)))
    uniform = (jnp.arange(10_000) + 0.5) / 10_000
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (10_000, *x.shape)), dist)
    samples = np.asarray(many.sample_with(jnp.zeros((10_000, 1)), uniform))[:, 0]
    assert set(samples) == {0.0, 1.0}
    assert (samples == 1.0).mean() == pytest.approx(0.02 / 0.995, abs=2e-4)
    log_prob = np.asarray(many.choice_log_prob(uniform))
    np.testing.assert_allclose(np.exp(log_prob[samples == 0.0]), 0.975 / 0.995, rtol=1e-4)
    gradient = jax.grad(
        lambda logits: NormalMixture(logits, loc, jnp.ones((3, 1))).choice_log_prob(uniform[0])
    )(dist.logits)
    np.testing.assert_allclose(gradient, [0.02 / 0.995, 0.0, -0.02 / 0.995], atol=1e-5)


def test_the_mean_of_a_bounded_scalar_stays_within_its_bounds():
    dist = ScalarMixture(
        jnp.zeros((3, 2)), jnp.array([[9.0, 1.0], [0.2, 0.4], [-9.0, 0.0]]), jnp.ones((3, 2))
    )
    np.testing.assert_allclose(dist.mean(), [5.0, 0.3, -4.5], rtol=1e-6)
    bounded = ScalarMixture(dist.logits, dist.loc, dist.scale, bounds=(-3.0, 0.5))
    np.testing.assert_allclose(bounded.mean(), [0.5, 0.3, -3.0], rtol=1e-6)


def test_a_mixture_of_scalars_integrates_to_one_and_has_its_mean():
    logits, loc = jnp.array([[0.0, 1.0], [2.0, -1.0]]), jnp.array([[-1.0, 2.0], [0.5, 0.6]])
    dist = ScalarMixture(logits, loc, jnp.array([[0.2, 0.7], [0.05, 1.5]]))
    x = jnp.linspace(-15.0, 15.0, 60_001)
    log_density = jax.vmap(lambda x: dist.log_prob(jnp.full(2, x)), out_axes=1)(x)
    density = np.exp(np.asarray(log_density, np.float64))
    np.testing.assert_allclose(np.trapezoid(density, x), 1.0, rtol=1e-4)
    np.testing.assert_allclose(np.trapezoid(density * np.asarray(x), x), dist.mean(), rtol=1e-3)
