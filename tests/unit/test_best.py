"""The best policy of a finished training: few episodes chose it, the final evaluation has the last word."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import s5wm
from s5wm.evaluation.protocol import evaluator
from s5wm.evaluation.result import keep_best
from s5wm.experiments import policies
from s5wm.experiments.trained import TrainedAgent, load_agent
from s5wm.runs.files import read_json

TINY = [
    *("train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_every=64"),
    *("train.eval_episodes=2", "train.checkpoint_every=64", "task.steps=10"),
    *("agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
]
EPISODES = 8


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    s5wm.train("toy/double-integrator", agent="ppo", run=path, env_steps=128, overrides=TINY)
    return path


def at_full_force(agent: TrainedAgent) -> TrainedAgent:
    """The agent with a policy that pushes into a wall, which is worse than one that has learned nothing."""
    pushing = jax.tree.map(lambda leaf: jnp.full_like(leaf, 5.0), agent.policy.actor)
    return replace(agent, policy=eqx.tree_at(lambda p: p.actor, agent.policy, pushing))


def test_a_latest_policy_that_is_better_becomes_the_best(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latest, lucky = s5wm.load(run, which="latest"), at_full_force(s5wm.load(run))
    judged = evaluator(lucky.experiment.task, 1)(lucky.policy, jax.random.key(0))
    keep_best(run / "best", lucky.policy, judged, 64)
    capsys.readouterr()
    metrics = policies.evaluate_training(run, episodes=EPISODES)
    told = capsys.readouterr().err
    for name, steps in (("best", 64), ("latest", 128)):
        assert f"{name} policy, of {steps} environment steps: {metrics['compared'][name]['headline']}" in told
    assert "the latest policy is the better one, and becomes the best" in told
    assert metrics["headline"] == metrics["compared"]["latest"]["headline"]
    assert (metrics["policy"], metrics["env_steps"], metrics["episodes"]) == ("best", 128, EPISODES)
    assert read_json(run / "eval.json") == metrics
    kept = s5wm.load(run)
    assert kept.source == run / "best"
    jax.tree.map(np.testing.assert_array_equal, kept.policy, latest.policy)
    again = policies.evaluate_training(run, episodes=EPISODES)  # one policy now: nothing to choose
    assert "compared" not in again and again["headline"] == metrics["headline"]


def test_a_best_policy_that_is_better_stays(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(run, *, which, warn):
        agent = load_agent(run, which=which, warn=warn)
        return at_full_force(agent) if which == "latest" else agent

    monkeypatch.setattr(policies, "load_agent", load)
    before = (run / "best" / "policy.npz").read_bytes()
    metrics = policies.evaluate_training(run, episodes=EPISODES)
    assert metrics["headline"] == metrics["compared"]["best"]["headline"]
    assert (run / "best" / "policy.npz").read_bytes() == before
