"""Any transformation takes a method of an environment as it is: ``jax.jit(env.step)``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import s5wm
from s5wm.experiments.presets import TASKS


@pytest.mark.parametrize("name", list(TASKS))
def test_bound_methods_of_a_task_compile_as_they_are(name):
    env = s5wm.make(name)
    assert env.step == env.step and hash(env.step) == hash(env.step)
    key = jax.random.key(0)
    state, timestep = jax.eval_shape(jax.jit(env.reset), key)
    action = jnp.zeros(env.spec.action_size)
    assert jax.eval_shape(jax.jit(env.step), state, action, key)[1].obs.shape == timestep.obs.shape
    jax.eval_shape(jax.jit(env.restart), state, key)
    jax.eval_shape(jax.jit(env.episode_metrics), state)


def test_a_compiled_step_is_the_step_and_compiles_once():
    env = s5wm.make("toy/double-integrator")
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    action, key = jnp.full(1, 0.3), jax.random.key(1)
    step = jax.jit(env.step)
    for got, expected in zip(
        jax.tree.leaves(step(state, action, key)), jax.tree.leaves(env.step(state, action, key)), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    jax.jit(env.step)(state, action, key)
    assert step._cache_size() == 1

    @jax.jit
    def inside(env, state):  # traced environments, too
        return jax.jit(env.step)(state, action, key)[1].obs, jax.jit(env.step)(state, action, key)[1].obs

    np.testing.assert_array_equal(*inside(env, state))
