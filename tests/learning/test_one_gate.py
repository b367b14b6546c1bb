"""The rung between hovering and racing: one gate, five metres ahead, learned by the preset that races."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import pytest

from s5wm.envs.racing.presets import easier_task
from s5wm.envs.racing.task import RacingConfig, RacingEnv
from s5wm.envs.racing.track import Track
from s5wm.envs.wrappers import AutoReset
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.experiments.presets.sizes import s5wm_cpu
from s5wm.training.loop import train
from s5wm.training.state import init_train

SECONDS = 2.0  # from hovering a metre too low, five metres of flight take about one


def straight() -> Track:
    """The gate, and a second one far behind it so that there is somewhere to go on to."""
    return Track(
        gate_pos=jnp.array([[0.0, 0.0, 2.0], [12.0, 0.0, 2.0]]),
        gate_yaw=jnp.zeros(2),
        half_opening=jnp.asarray(0.75),
        rim=jnp.asarray(0.275),
        has_lower_rim=jnp.ones(2, bool),
        physical=jnp.arange(2, dtype=jnp.int32),
        box_lo=jnp.array([-8.0, -4.0, 0.05]),
        box_hi=jnp.array([20.0, 4.0, 5.0]),
        start_pos=jnp.array([-5.0, 0.0, 1.0]),
        start_yaw=jnp.asarray(0.0),
    )


def race(config: RacingConfig) -> RacingEnv:
    return RacingEnv(params=config.quad.build(), track=straight(), config=config)


@pytest.mark.learning
def test_one_gate_ahead_is_passed():
    config = replace(
        easier_task(RacingConfig()), p_start_initial=1.0, p_start_final=1.0, episode_seconds=SECONDS
    )
    config = replace(config, curriculum_steps=3000)
    env, judged = AutoReset(race(config)), race(replace(config.eval_config(), episode_seconds=SECONDS))
    agent_config, loop = s5wm_cpu()
    agent = agent_config.build(env.spec, num_envs=loop.num_envs)
    state = init_train(env, agent, loop.num_envs, seed=0)
    plan = EvalConfig(episodes=100, max_steps=100, recorded=1, snapshot=lambda state: state.gates)

    def passes() -> float:
        """Share of flights through the gate."""
        metrics = run_episodes(judged, agent.policy(state.learner), plan, jr.key(1)).metrics
        return float(jnp.mean(metrics["gates"] >= 1))

    assert passes() == 0.0
    for _ in range(900):  # 1.8 M steps
        state, _, _ = train(env, agent, state, length=loop.rollout_length, iterations=1)
    assert passes() >= 0.9
