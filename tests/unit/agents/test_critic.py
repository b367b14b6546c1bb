"""Value heads: where they begin, and what a number learns that bins do not."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from s5wm.agents.dreamer.heads import CriticConfig

NUMBER = CriticConfig(units=32, layers=2, bins=None, products=True)
BINS = CriticConfig(units=32, layers=2, bins=63, limit=5.0)


@pytest.mark.parametrize("config", [NUMBER, BINS, replace(NUMBER, products=False)])
def test_a_critic_begins_at_zero(config):
    critic = config.build(5, key=jr.key(0))
    np.testing.assert_array_equal(critic(jr.normal(jr.key(1), (7, 5))).mean(), np.zeros(7))


def value(x):
    """A product and a line: what progress along a direction looks like."""
    return 8.0 + 3.0 * x[..., 0] * x[..., 1] + x[..., 2]


def learned(config, features, batch):
    """A critic after 800 updates; ``batch`` gives inputs and targets."""
    critic = config.build(features, key=jr.key(0))
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, 800))
    arrays, static = eqx.partition(critic, eqx.is_array)

    @jax.jit
    def learn(arrays):
        def step(carry, key):
            arrays, state = carry
            x, target = batch(key)

            def loss(arrays):
                return -jnp.mean(eqx.combine(arrays, static)(x).log_prob(target))

            updates, state = optimiser.update(jax.grad(loss)(arrays), state)
            return (optax.apply_updates(arrays, updates), state), None

        return jax.lax.scan(step, (arrays, optimiser.init(arrays)), jr.split(jr.key(1), 800))[0][0]

    return eqx.combine(learn(arrays), static)


def noisy(key):
    k_x, k_noise = jr.split(key)
    x = jr.normal(k_x, (64, 4))
    return x, value(x) + 0.5 * jr.normal(k_noise, (64,))


def slope_error(config):
    """Of the gradient of a value learned from noisy targets, relative to the true one."""
    critic = learned(config, 4, noisy)
    x = jr.normal(jr.key(2), (512, 4))
    found = jax.vmap(jax.grad(lambda x: critic(x).mean()))(x)
    true = jax.vmap(jax.grad(value))(x)
    return float(jnp.linalg.norm(found - true) / jnp.linalg.norm(true))


def test_a_number_with_products_has_the_more_exact_slope():
    assert slope_error(NUMBER) < min(0.15, 0.5 * slope_error(BINS))


GOES_ON, CRASHES = 19.0, -2.0


def flights(key):
    """Returns of flights that crash with a chance of ``x``."""
    k_x, k_crash = jr.split(key)
    x = jr.uniform(k_x, (256, 1), maxval=0.6)
    return x, jnp.where(jr.uniform(k_crash, (256,)) < x[:, 0], CRASHES, GOES_ON)


@pytest.mark.parametrize("config", [NUMBER, BINS])
def test_the_value_is_the_mean_of_flights_that_go_on_and_that_crash(config):
    """Not their median, which is GOES_ON up to a chance of a half."""
    critic = learned(config, 1, flights)
    chance = jnp.linspace(0.05, 0.55, 6)[:, None]
    expected = GOES_ON + chance[:, 0] * (CRASHES - GOES_ON)
    np.testing.assert_allclose(critic(chance).mean(), expected, atol=0.8)
