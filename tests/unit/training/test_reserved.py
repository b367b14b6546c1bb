"""An environment's metrics of reserved names are left out by both collectors, in evaluations and in checks."""

import ast
import inspect

import jax.numpy as jnp
import jax.random as jr
import pytest

from s5wm.checkenv.gymenv import check_gym
from s5wm.checkenv.jaxenv import check_jax
from s5wm.checkenv.seen import Seen
from s5wm.envs.adapters.gymnasium import host_env
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError
from s5wm.evaluation.hosted import run_hosted_episodes
from s5wm.evaluation.protocol import _common
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.training.hosted import HostedChunk
from s5wm.training.loop import train
from s5wm.training.state import described_episodes, episode_means, init_train
from s5wm.types import RESERVED_METRICS

from .test_hosted import AGENT, LENGTH, CompiledCounter, Counter

GIVEN = dict.fromkeys(sorted(RESERVED_METRICS), -99.0) | {"gain": 3.0}


class Hosted(Counter):
    def step(self, action):
        *row, info = super().step(action)
        return *row, info | {"metrics": GIVEN}


class Compiled(CompiledCounter):
    def episode_metrics(self, state):
        return {name: jnp.float32(value) for name, value in GIVEN.items()}


class Listed(CompiledCounter):
    def episode_metrics(self, state):
        return {"path": jnp.zeros(3)}


def test_both_collectors_log_the_same() -> None:
    env = host_env(Hosted)
    agent = AGENT.build(env.spec, num_envs=2)
    chunk = HostedChunk(env, agent, num_envs=2, length=8, seed=0)
    ((_, _, hosted),) = chunk([init_train(env, agent, 2, 0)], 1)
    chunk.close()
    env = AutoReset(Compiled())
    _, _, compiled = train(env, agent, init_train(env, agent, 2, 0), length=8, iterations=1)
    rows = [episode_means(sums) for sums in (hosted, compiled)]
    assert rows[0].pop("episode/success") in (
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
    )  # of its info, which the other one lacks
    assert rows[0] == pytest.approx(rows[1])
    assert rows[0]["episode/count"] == 4 and rows[0]["episode/length"] == LENGTH
    assert rows[0]["episode/gain"] == 3.0 and -99.0 not in rows[0].values()


def test_both_evaluations_report_the_same() -> None:
    plan = EvalConfig(episodes=2, max_steps=10, recorded=0, snapshot=lambda _: {})
    host, compiled = host_env(Hosted), Compiled()
    policy = AGENT.build(host.spec).policy(AGENT.build(host.spec).init(jr.key(0)))
    hosted = run_hosted_episodes(host, policy, plan, jr.key(1))
    inside = run_episodes(compiled, policy, plan, jr.key(1))
    for episodes in (hosted, inside):
        assert set(episodes.metrics) - {"success"} == {"gain"}
        assert _common(episodes)["steps_mean"] == LENGTH


def test_both_checks_tell() -> None:
    said = [
        list(check_gym(Hosted(), 10, lambda _: None, Seen(LENGTH))),
        list(check_jax(Compiled(), 10, lambda _: None, Seen(LENGTH))),
    ]
    for name in RESERVED_METRICS:
        for problems in said:
            assert any(name in each and "has a name of s5wm's own numbers" in each for each in problems)


def test_what_is_measured_of_every_episode_is_reserved() -> None:
    """Names in the log, and those that ``_common`` gives as means."""
    constants = {
        node.value
        for function in (described_episodes, episode_means, _common)
        for node in ast.walk(ast.parse(inspect.getsource(function)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {name.removeprefix("episode/").removesuffix("_mean") for name in constants if " " not in name}
    others = {"", "episodes", "return_std", "terminated_rate"}
    assert names - others == RESERVED_METRICS


def test_a_metric_that_is_no_number_is_told_and_not_trained_on() -> None:
    seen = Seen(LENGTH)
    assert "the metric path is an array of shape (3,), not a number" in list(
        check_jax(Listed(), 10, lambda _: None, seen)
    )
    assert not seen.reported
    env = AutoReset(Listed())
    agent = AGENT.build(env.spec, num_envs=2)
    with pytest.raises(ConfigError, match=r"the metric path of an episode has shape \(3,\)"):
        train(env, agent, init_train(env, agent, 2, 0), length=8, iterations=1)
