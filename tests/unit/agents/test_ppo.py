"""PPO against the probe environments' analytic values, and the parts a probe cannot see."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box
from s5wm.agents.ppo.actor import TanhMLP
from s5wm.agents.ppo.agent import PPO, PolicyExtras, PPOConfig
from s5wm.envs.probes import ActionReward, ConstantReward, DelayedReward, ObsActionReward, ObsReward
from s5wm.envs.wrappers import AutoReset
from s5wm.training.loop import train
from s5wm.training.state import init_train
from s5wm.types import EnvSpec, Reward, TimeStep, Transition

CONFIG = PPOConfig(
    units=16,
    layers=1,
    discount=0.9,
    learning_rate=1e-2,
    epochs=4,
    minibatches=2,
    entropy=0.0,
    log_std_init=-1.0,
)
OBSERVATIONS = {
    ConstantReward: [0.0],
    ObsReward: [-1.0, 1.0],
    DelayedReward: [0.0, 1.0],
    ActionReward: [0.0],
    ObsActionReward: [-0.6, 0.0, 0.6],
}


def learn(probe, *, smoothing_weight=0.0, iterations=150):
    """Learner after training on a probe, with its agent."""
    env = AutoReset(probe)
    agent = CONFIG.build(env.spec)
    state = init_train(env, agent, 32, 0)
    state = replace(state, smoothing_weight=jnp.float32(smoothing_weight))
    state, _, _ = train(env, agent, state, length=8, iterations=iterations)
    assert state.smoothing_weight == smoothing_weight
    return agent, state.learner


@pytest.mark.parametrize(
    ("probe", "smoothing_weight"),
    [(ConstantReward, 0.0), (ObsReward, 0.0), (DelayedReward, 0.0), (ObsActionReward, 0.0)]
    + [(ActionReward, 0.0), (ActionReward, 1.0)],
)
def test_ppo_learns_the_value_and_the_action_of_a_probe(probe, smoothing_weight):
    agent, learner = learn(probe(), smoothing_weight=smoothing_weight)
    policy = agent.policy(learner)
    for shown in OBSERVATIONS[probe]:
        obs = jnp.array([shown])
        value = learner.params.critic(learner.critic_moments.normalise(obs))[0]
        # The policy goes on exploring, which costs it the variance of its actions.
        spread = float(jnp.exp(2 * learner.params.log_std[0])) * (1 + smoothing_weight)
        cost = spread if probe in (ActionReward, ObsActionReward) else 0.0
        expected = probe().value(obs, CONFIG.discount, smoothing_weight) - cost
        assert value == pytest.approx(float(expected), abs=0.1)
        if probe in (ActionReward, ObsActionReward):
            action = policy(None, obs, jnp.array(True), key=None)[1]
            best = probe().optimal_action(obs, smoothing_weight)
            np.testing.assert_allclose(action, best, atol=0.1)


SPEC = EnvSpec(
    (2,), np.dtype(np.float32), privileged_size=3, action=Box((1,)), ctrl_dt=0.1, has_smoothing=True
)
ROWS = 6


def rollout(key):
    """Random rows of four environments with an end at row 2."""
    k_obs, k_privileged, k_reward, k_action = jr.split(key, 4)
    last = jnp.zeros((4, ROWS), bool).at[:, 2].set(True)
    timestep = TimeStep(
        obs=jr.normal(k_obs, (4, ROWS, 2)),
        privileged=jr.normal(k_privileged, (4, ROWS, 3)),
        reward=Reward(jr.normal(k_reward, (4, ROWS)), jnp.zeros((4, ROWS))),
        is_first=jnp.roll(last, 1, axis=1),
        is_last=last,
        is_terminal=jnp.zeros((4, ROWS), bool),
    )
    return Transition(timestep, jr.normal(k_action, (4, ROWS, 1)), PolicyExtras(-jnp.ones((4, ROWS)), None))


@eqx.filter_jit
def update(agent, learner, rollout):
    return agent.update(learner, rollout, smoothing_weight=jnp.float32(0.0), key=jr.key(3))[0]


def moved(tree, other):
    return any(np.any(a != b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("critic_inputs", ["obs", "privileged"])
def test_only_an_asymmetric_critic_reads_the_privileged_state(critic_inputs):
    agent = PPO(replace(CONFIG, critic_inputs=critic_inputs, epochs=1, minibatches=1), SPEC)
    learner, rows = agent.init(jr.key(0)), rollout(jr.key(1))
    other = replace(rows, timestep=replace(rows.timestep, privileged=-rows.timestep.privileged))
    mine, theirs = update(agent, learner, rows), update(agent, learner, other)
    assert moved(mine.params.critic, theirs.params.critic) == (critic_inputs == "privileged")
    policy = agent.policy(learner)
    assert policy.actor.network.weights[0].shape[1] == 2
    np.testing.assert_array_equal(mine.obs_moments.mean, theirs.obs_moments.mean)


def test_an_action_that_only_triggered_a_reset_teaches_nothing():
    """Row 2 is a last row: its action and log-probability do not matter; those of row 1 do."""
    agent = PPO(replace(CONFIG, epochs=1, minibatches=1), SPEC)
    learner, rows = agent.init(jr.key(0)), rollout(jr.key(1))
    base = update(agent, learner, rows)
    for row, matters in ((2, False), (1, True), (ROWS - 1, False)):
        action = rows.action.at[:, row].add(1.0)
        log_prob = rows.extras.log_prob.at[:, row].add(0.1)
        other = update(agent, learner, replace(rows, action=action, extras=PolicyExtras(log_prob, None)))
        assert moved(base.params, other.params) == matters


def test_the_policy_reports_the_log_probability_of_its_action():
    agent = PPO(CONFIG, SPEC)
    policy = agent.policy(agent.init(jr.key(0)))
    obs = jnp.array([0.3, -0.2])
    _, action, acted = policy(None, obs, jnp.array(False), key=jr.key(2))
    _, dist = policy.distribution(None, obs, jnp.array(False))
    assert acted.log_prob == pytest.approx(float(dist.log_prob(action)), rel=1e-6)
    _, greedy, _ = policy(None, obs, jnp.array(False), key=None)
    np.testing.assert_array_equal(greedy, dist.loc)
    assert action != greedy


def test_weights_start_orthogonal():
    network = TanhMLP((3, 16, 1), out_scale=0.01, key=jr.key(0))
    np.testing.assert_allclose(network.weights[0].T @ network.weights[0], 2 * np.eye(3), atol=1e-5)
    assert np.linalg.norm(network.weights[1]) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "ppo.epochs is 0; it must be positive"),
        ({"discount": 1.5}, r"ppo.discount is 1.5; it must lie"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**changes)


@pytest.mark.parametrize(
    ("rate", "kl", "factor"),
    [(1e-3, 0.1, 1 / 1.5), (1e-3, 0.001, 1.5), (1e-3, 0.01, 1.0), (1e-2, 0.001, 1.0), (1e-4, 0.1, 1.0)],
    ids=["too far", "too near", "right", "not above the largest", "not below a hundredth"],
)
def test_the_learning_rate_follows_the_kl(rate, kl, factor):
    agent = CONFIG.build(ConstantReward().spec)
    np.testing.assert_allclose(agent._adapt(jnp.float32(rate), jnp.float32(kl)), rate * factor, rtol=1e-5)


def test_the_spread_can_leave_its_floor_again():
    agent = replace(CONFIG, log_std_min=-1.0, log_std_init=-1.0).build(ConstantReward().spec)
    params = agent.init(jr.key(0)).params
    one = jnp.ones(())
    below = agent._floored(eqx.tree_at(lambda p: p.log_std, params, params.log_std - 1.0), one)
    np.testing.assert_array_equal(below.log_std, -1.0)
    above = agent._floored(eqx.tree_at(lambda p: p.log_std, below, below.log_std + 0.5), one)
    np.testing.assert_array_equal(above.log_std, -0.5)
    with pytest.raises(ValueError, match="begin above the floor"):
        replace(CONFIG, log_std_init=-3.0)


@pytest.mark.parametrize(("schedule", "floor"), [(1.0, -1.0), (0.5, -2.5), (0.0, -4.0)])
def test_the_floor_of_the_spread_sinks_with_the_learning_rates(schedule, floor):
    config = replace(CONFIG, log_std_min=-1.0, log_std_init=-1.0, log_std_final=-4.0)
    agent = config.build(ConstantReward().spec)
    params = agent.init(jr.key(0)).params
    deep = eqx.tree_at(lambda p: p.log_std, params, params.log_std - 9.0)
    np.testing.assert_allclose(agent._floored(deep, jnp.float32(schedule)).log_std, floor, rtol=1e-6)
    stays = replace(config, log_std_final=None).build(ConstantReward().spec)
    np.testing.assert_allclose(stays._floored(deep, jnp.float32(schedule)).log_std, -1.0)
    with pytest.raises(ValueError, match="can only sink"):
        replace(config, log_std_final=-0.5)
