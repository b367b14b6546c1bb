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


def slope_error(config):
    """Of the value's gradient after 800 updates on noisy targets, relative to the true one."""
    critic = config.build(4, key=jr.key(0))
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, 800))
    arrays, static = eqx.partition(critic, eqx.is_array)

    @jax.jit
    def learn(arrays):
        def step(carry, key):
            arrays, state = carry
            k_x, k_noise = jr.split(key)
            x = jr.normal(k_x, (64, 4))
            target = value(x) + 0.5 * jr.normal(k_noise, (64,))

            def loss(arrays):
                return -jnp.mean(eqx.combine(arrays, static)(x).log_prob(target))

            updates, state = optimiser.update(jax.grad(loss)(arrays), state)
            return (optax.apply_updates(arrays, updates), state), None

        return jax.lax.scan(step, (arrays, optimiser.init(arrays)), jr.split(jr.key(1), 800))[0][0]

    learned = eqx.combine(learn(arrays), static)
    x = jr.normal(jr.key(2), (512, 4))
    found = jax.vmap(jax.grad(lambda x: learned(x).mean()))(x)
    true = jax.vmap(jax.grad(value))(x)
    return float(jnp.linalg.norm(found - true) / jnp.linalg.norm(true))


def test_a_number_with_products_has_the_more_exact_slope():
    assert slope_error(NUMBER) < min(0.15, 0.5 * slope_error(BINS))
