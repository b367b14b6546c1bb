"""What is kept of a gradient step that was skipped: the very batch it had drawn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.envs.toys import DoubleIntegratorConfig

from ...tiny import S5WM


def test_the_batch_of_a_skipped_step_is_the_evidence() -> None:
    agent = S5WM.build(DoubleIntegratorConfig().build().spec, num_envs=8)
    learner = jax.jit(agent.init)(jr.key(0))
    learner = eqx.tree_at(lambda x: x.replay.filled, learner, jnp.asarray(32))
    assert agent.evidence(learner) is None

    row = (3, 17)  # of environment 3
    poisoned = learner.replay.rows.timestep.obs.at[row].set(jnp.nan)
    learner = eqx.tree_at(lambda x: x.replay.rows.timestep.obs, learner, poisoned)
    step = jax.jit(lambda learner, key: agent.gradient_step(learner, jnp.zeros(()), key)[0])
    for i in range(120):
        key = jr.fold_in(jr.key(1), i)
        after = step(learner, key)
        skipped = int(after.guard.skipped) > int(learner.guard.skipped)
        windows, _ = agent.sample(learner.replay, jr.split(key)[0])
        offset = (row[1] - np.asarray(windows.start)) % 32
        hit = (np.asarray(windows.env) == row[0]) & (offset <= S5WM.replay.length)
        assert skipped == bool(hit.any())
        if skipped:
            suspect, updates, rows = agent.evidence(after)
            jax.tree.map(np.testing.assert_array_equal, suspect.windows, windows)
            assert int(suspect.update) == int(updates) - 1 == i
            assert np.isnan(rows.timestep.obs).any(axis=(1, 2)).tolist() == hit.tolist()
            jax.tree.map(np.testing.assert_array_equal, after.params, learner.params)
        learner = after
    assert int(learner.guard.skipped) > 0
