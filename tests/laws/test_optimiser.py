"""The optimiser against plain NumPy forms of its equations, written from the papers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.agents.optimiser import OptimiserConfig, clip_norms


class Params(eqx.Module):
    """Named as the optimiser's groups are."""

    world_model: jax.Array


def laprop(gradients, *, rate, beta1=0.9, beta2=0.999, epsilon=1e-20):
    """Ziyin et al. 2020, algorithm 1, in float64: the quotient ``g / (sqrt(v) + eps)`` first, then its momentum."""
    v = m = np.zeros_like(gradients[0], np.float64)
    steps = []
    for t, g in enumerate(np.asarray(gradients, np.float64), 1):
        v = beta2 * v + (1 - beta2) * g**2
        m = beta1 * m + (1 - beta1) * g / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        steps.append(-rate * m / (1 - beta1**t))
    return np.array(steps)


@pytest.mark.parametrize("size", [10.0**-power for power in range(16)])
def test_a_step_is_laprops_however_small_the_gradient(size):
    """DreamerV3's epsilon is 1e-20 beside ``sqrt(v)``: a gradient of 1e-15 moves a parameter as far as one of 1."""
    gradients = size * np.array([[1.0, -0.5], [0.2, -2.0], [-1.0, 0.1]], np.float32)
    config = OptimiserConfig(learning_rate=0.1, warmup=1, clip=1e30)
    transform = config.build()
    params = Params(jnp.ones(2))
    state, found = transform.init(params), []
    for gradient in gradients:
        delta, state = transform.update(Params(jnp.asarray(gradient)), state, params)
        found.append(delta.world_model)
    np.testing.assert_allclose(found, laprop(gradients, rate=0.1), rtol=1e-4)  # 1 - 0.999 in float32


def test_a_tensor_is_clipped_relative_to_its_own_norm():
    """Brock et al. 2021 as in DreamerV3: ``g min(1, c max(|w|, 1e-3) / |g|)`` for a whole tensor."""
    transform = OptimiserConfig(learning_rate=1.0, warmup=1, clip=0.3, beta1=0.0, beta2=0.0).build()
    params = Params(jnp.array([3.0, 4.0]))
    state = transform.init(params)
    # With both betas 0 a step is the sign of the clipped gradient: the clipping shows in the second moment alone.
    _, state = transform.update(Params(jnp.array([30.0, 40.0])), state, params)
    moment = next(leaf for leaf in jax.tree.leaves(state) if leaf.shape == (2,))
    np.testing.assert_allclose(jnp.sqrt(moment), 1.5 * np.array([0.6, 0.8]), rtol=1e-5)


class Groups(eqx.Module):
    """All that a world-model agent trains."""

    world_model: jax.Array
    actor: jax.Array
    critic: jax.Array


def test_actor_and_critic_begin_after_their_delay_as_if_they_had_just_begun():
    """Zero gradients for 40 updates, then noise: the steps are those of an optimiser that is new at that moment."""
    delay, config = 40, OptimiserConfig(learning_rate=0.1, warmup=30, clip=1e30)
    noise = np.random.default_rng(0).normal(size=(delay + 50, 4)).astype(np.float32)
    late = noise * (np.arange(delay + 50) >= delay)[:, None]
    params = Groups(*(jnp.ones(4),) * 3)

    def run(transform, gradients):
        def step(state, gradient):
            delta, state = transform.update(gradient, state, params)
            return state, delta

        return jax.lax.scan(step, transform.init(params), gradients)[1]

    waited = run(config.build(actor_critic_delay=delay), Groups(noise, late, late))
    fresh = run(config.build(), Groups(*(noise[delay:],) * 3))
    np.testing.assert_allclose(waited.actor[delay:], fresh.actor, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(waited.critic[delay:], fresh.critic, rtol=1e-4, atol=1e-7)
    assert not np.any(waited.actor[:delay])
    whole = run(config.build(), Groups(*(noise,) * 3))
    np.testing.assert_array_equal(waited.world_model, whole.world_model)
    without = run(config.build(), Groups(noise, late, late))
    assert np.abs(without.actor[delay : delay + 10]).mean() > 4 * np.abs(fresh.actor[:10]).mean()


def test_groups_are_clipped_each_by_its_own_norm():
    """A critic whose gradient is huge leaves the actor its step."""
    grads = Groups(jnp.array([0.3]), jnp.array([0.4]), jnp.array([3000.0, 4000.0]))
    transform = clip_norms(0.5, apart="critic")
    clipped, _ = transform.update(grads, transform.init(grads), grads)
    np.testing.assert_allclose(clipped.world_model, [0.3], rtol=1e-6)
    np.testing.assert_allclose(clipped.actor, [0.4], rtol=1e-6)
    np.testing.assert_allclose(clipped.critic, [0.3, 0.4], rtol=1e-6)
