"""The best policy of a finished training: few episodes chose it, the final evaluation has the last word."""

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import s5wm
from s5wm.cli.deploying import Ship
from s5wm.diagnostics.health import inspect_run
from s5wm.errors import ConfigError, RunDirectoryError, WriteError
from s5wm.evaluation.protocol import evaluator
from s5wm.evaluation.result import keep_best, kept_score
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
    again = policies.evaluate_run(run, episodes=EPISODES, out=run.parent / "again")
    assert metrics["headline"] == again["headline"] and metrics["seed"] == policies.FINAL_SEED
    assert metrics["compared"]["seed"] == policies.CHOICE_SEED
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
    assert (metrics["policy"], metrics["env_steps"]) == ("best", metrics["compared"]["best"]["env_steps"])
    assert (run / "best" / "policy.npz").read_bytes() == before


def test_the_better_of_two_is_reported_on_episodes_that_did_not_choose_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(run, *, which, warn):
        agent = load_agent(run, which=which, warn=warn)
        return at_full_force(agent) if which == "latest" else agent

    seeds: list[int] = []
    make = policies.evaluator_as_given

    def recorded(task, episodes):
        evaluate = make(task, episodes)

        def fly(policy, key):
            seeds.append(int(jax.random.key_data(key)[-1]))
            return evaluate(policy, key)

        return fly

    monkeypatch.setattr(policies, "load_agent", load)
    monkeypatch.setattr(policies, "evaluator_as_given", recorded)
    policies.evaluate_training(run, episodes=2)
    assert seeds == [policies.CHOICE_SEED, policies.CHOICE_SEED, policies.FINAL_SEED]
    assert policies.CHOICE_SEED != policies.FINAL_SEED


def test_a_kill_between_the_two_steps_of_a_replacement_loses_no_policy(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = s5wm.load(run)
    judged = evaluator(agent.experiment.task, 1)(agent.policy, jax.random.key(0))
    real = os.replace

    def killed(old: Path, new: Path) -> None:
        if Path(new) == run / "best":
            raise KeyboardInterrupt
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("s5wm.runs.files.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            keep_best(run / "best", agent.policy, judged, 64)
    assert not (run / "best").exists()
    jax.tree.map(np.testing.assert_array_equal, s5wm.load(run).policy, agent.policy)
    assert dict(inspect_run(run))["best"].startswith("whole")
    assert kept_score(run / "best") is not None
    keep_best(run / "best", agent.policy, judged, 64)
    assert sorted(path.name for path in run.glob("best*")) == ["best"]


def test_a_reader_between_the_two_steps_of_a_replacement_is_not_in_its_way(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = s5wm.load(run)
    better = at_full_force(before)
    judged = evaluator(better.experiment.task, 1)(better.policy, jax.random.key(0))
    real, seen = os.replace, []

    def watched(old: Path, new: Path) -> None:
        if Path(new) == run / "best":
            seen.append(s5wm.load(run))
            assert kept_score(run / "best") is not None
        real(old, new)

    monkeypatch.setattr("s5wm.runs.files.os.replace", watched)
    keep_best(run / "best", better.policy, judged, 128)
    jax.tree.map(np.testing.assert_array_equal, seen[0].policy, before.policy)
    assert (seen[0].kind, seen[0].env_steps) == ("best", before.env_steps)
    jax.tree.map(np.testing.assert_array_equal, s5wm.load(run).policy, better.policy)


def test_shipping_removes_nothing_but_an_earlier_policy(run: Path, tmp_path: Path) -> None:
    for folder in (run, run.parent):
        with pytest.raises(ConfigError, match="holds something else, which shipping would remove"):
            policies.ship(run, folder, episodes=1)
    for name in ("..", ".", "a/b"):
        with pytest.raises(ConfigError, match="is no name of a policy"):
            Ship(policy_run=str(run), name=name, to=tmp_path).run()
    assert (run / "metrics.jsonl").is_file()
    for where in (Path("/proc/nowhere"), run / "metrics.jsonl"):
        with (
            patch.object(policies, "load_agent", side_effect=AssertionError("before anything flies")),
            pytest.raises(RunDirectoryError, match="name another folder with --to"),
        ):
            Ship(policy_run=str(run), name="shipped", to=where).run()
    for _ in range(2):
        policies.ship(run, tmp_path / "shipped", episodes=1)
    assert s5wm.load(tmp_path / "shipped").source == tmp_path / "shipped"


def test_a_policy_that_cannot_be_written_ends_with_74_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.partial").write_text("a file where the new folder is made")
    with pytest.raises(WriteError, match="cannot write .*taken: File exists"):
        policies.write_policy(s5wm.load(run), {}, tmp_path / "taken")
    (tmp_path / "taken.partial").unlink()
    with (
        patch.object(policies, "write_json", side_effect=WriteError("the disk is full by now")),
        pytest.raises(WriteError),
    ):
        policies.write_policy(s5wm.load(run), {}, tmp_path / "taken")
    assert list(tmp_path.iterdir()) == [run]
