"""An episode of the viewer, one compiled program, is what stepping the environment gives."""

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.base import AbstractPolicy
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.envs.hover import HoverConfig
from s5wm.viewer.episode import run_episode

from ...faults import fragile

SEED = 3


def test_an_episode_that_ends_early_is_what_stepping_gives() -> None:
    task = HoverConfig()
    judged = task.eval_config()
    env = judged.build()
    agent = PPOConfig(units=4, layers=1, epochs=1, minibatches=2).build(env.spec, num_envs=2)
    policy = agent.policy(agent.init(jr.key(0)))
    found = run_episode(task, policy, SEED)

    k_reset, k_steps = jr.split(jr.key(SEED))
    act = jax.jit(lambda memory, now: policy(memory, now.obs, now.is_first, key=None)[:2])
    step = jax.jit(
        lambda state, action, t: env.step(state, env.spec.action.decode(action), jr.fold_in(k_steps, t))
    )
    (state, now), memory = jax.jit(env.reset)(k_reset), policy.initial()
    obs, actions, rewards = [], [], []
    for t in range(judged.max_steps + 1):
        memory, action = act(memory, now)
        obs.append(now.obs)
        actions.append(action)
        rewards.append(now.reward.nominal)
        if bool(now.is_last):
            break
        state, now = step(state, action, jnp.asarray(t))
    assert found.rows == len(actions) < judged.max_steps
    assert found.ending == "terminated"
    np.testing.assert_allclose(found.numbers, np.stack(obs), atol=1e-4)
    np.testing.assert_allclose(found.action, np.stack(actions), atol=1e-4)
    np.testing.assert_allclose(found.reward, np.stack(rewards), atol=1e-4)
    metrics = env.episode_metrics(state)  # of the state in which the episode ended
    for name, value in found.metrics.items():
        np.testing.assert_allclose(value, getattr(metrics[name], "value", metrics[name]), atol=1e-4)


class First(AbstractPolicy):
    """Always chooses the first of two."""

    def initial(self):
        return jnp.zeros(())

    def __call__(self, carry, obs, is_first, *, key):
        return carry, jnp.array([1.0, 0.0]), None


def test_an_episode_ends_where_its_environment_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(fragile.__file__).parent)
    fragile.order(tmp_path, "raise")  # obeyed at the second step
    task = FactoryConfig(factory="fragile:Fragile", args=(f"folder={tmp_path}",), eval_steps=10)
    found = run_episode(task, First(), SEED)
    assert (found.rows, found.ending) == (2, "cut: the environment failed")
    np.testing.assert_array_equal(found.numbers[:, 0], [0.0, 1.0])
    again = run_episode(task, First(), SEED)  # what failed has been made anew
    assert (again.rows, again.ending) == (7, "terminated")
