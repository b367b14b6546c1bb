"""A run that begins with another one's parameters: those and nothing else, checked by name, and the same way again."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.diagnostics.health import inspect_run
from s5wm.errors import ConfigError, CorruptError
from s5wm.experiments import run as running
from s5wm.experiments.experiment import Experiment, load_experiment, save_experiment
from s5wm.experiments.policies import write_policy
from s5wm.experiments.run import How
from s5wm.experiments.start import find_start, recorded_start, settle_start
from s5wm.experiments.trained import load_agent
from s5wm.runs.checkpoint import Checkpoints, restore
from s5wm.runs.directory import RunDirectory
from s5wm.runs.policyfile import named_leaves
from s5wm.training.run import Trainer, abstract_state
from s5wm.training.start import read_start

from ..diagnostics.saved import SMALL, save_run

AVERAGED = dataclasses.replace(SMALL, agent=dataclasses.replace(SMALL.agent, ema_rate=0.1), seed=7)
HEADS = ["params.critic", *(f"params.world_model.{head}" for head in ("cont", "decoder", "reward_nominal"))]


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "source", SMALL)


@pytest.fixture(scope="module")
def shipped(source: Path) -> Path:
    folder = source.parent / "shipped"
    write_policy(load_agent(source, which="latest", warn=silent), {"env_steps": 192}, folder)
    return folder


def stored(folder: Path) -> dict[str, np.ndarray]:
    newest = Checkpoints(folder / "checkpoints", keep=1).newest(silent)
    state, _ = restore(newest, abstract_state(SMALL.build(), SMALL.train, SMALL.seed))
    return named_leaves(state.learner)


def begun(path: Path, source: Path | None) -> dict[str, np.ndarray]:
    """The learner of a new run at its first step, and at that of one that was killed there and goes on."""
    with RunDirectory(path) as directory:
        start = None if source is None else find_start(source, AVERAGED, silent)
        settle_start(directory, None if source is None else str(source), start)
        save_experiment(directory.config, AVERAGED, start=recorded_start(directory))
        learners = []
        for _ in range(2):
            trainer = Trainer(AVERAGED.build(), AVERAGED.train, directory, AVERAGED.seed)
            trainer.restore(None)
            learners.append(named_leaves(trainer.state.learner))
        jax.tree.map(np.testing.assert_array_equal, *learners)
    return learners[0]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return begun(tmp_path_factory.mktemp("fresh") / "run", None)


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray], *parts: str) -> bool:
    names = [name for name in left if name.startswith(parts)]
    assert names
    return all(np.array_equal(left[name], right[name]) for name in names)


@pytest.mark.slow
def test_all_parameters_of_a_run_and_nothing_else(source: Path, fresh: dict, tmp_path: Path) -> None:
    learner, before = begun(tmp_path / "run", source), stored(source)
    assert same(learner, before, "params.")
    assert not same(fresh, before, "params.actor")
    rest = tuple({name.split(".")[0] + "." for name in fresh} - {"params.", "slow_critic.", "policy_ema."})
    assert {"opt_state.", "replay.", "guard."} <= set(rest)
    assert same(fresh, learner, *(part.removesuffix(".") for part in rest))
    for copy, part in (("slow_critic", "params.critic"), ("policy_ema.actor", "params.actor")):
        for name in (n for n in learner if n.startswith(copy + ".")):
            np.testing.assert_array_equal(learner[name], learner[part + name.removeprefix(copy)])
            assert learner[name] is not learner[part + name.removeprefix(copy)]  # donation
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    expected = {"run": str(source), "policy": "latest", "env_steps": 192, "fresh": []}
    assert config["from"] == expected
    assert load_experiment(tmp_path / "run" / "config.json", warn=pytest.fail) == AVERAGED
    assert ("start", "whole") in inspect_run(tmp_path / "run")


@pytest.mark.slow
def test_a_shipped_policy_gives_what_acting_needs(
    source: Path, shipped: Path, fresh: dict, tmp_path: Path
) -> None:
    learner, before = begun(tmp_path / "run", shipped), stored(source)
    assert same(learner, before, "params.actor", "params.world_model.encoder", "params.world_model.dynamics")
    # Fresh ones are drawn by a program of another run: the same numbers, to the last digit of float32.
    drawn = [name for name in learner if name.startswith((*HEADS, "slow_critic"))]
    assert drawn
    for name in drawn:
        np.testing.assert_allclose(learner[name], fresh[name], atol=5e-7)
    about = recorded_start(RunDirectory(tmp_path / "run"))
    assert (about["policy"], about["env_steps"]) == ("shipped", 192)
    assert set(HEADS) <= set(about["fresh"]) and "params.actor" not in about["fresh"]


def with_units(units: int) -> Experiment:
    actor = dataclasses.replace(SMALL.agent.actor, units=units)
    return dataclasses.replace(SMALL, agent=dataclasses.replace(SMALL.agent, actor=actor))


def test_another_architecture_is_refused_by_name(source: Path, shipped: Path) -> None:
    for path in (source, shipped):
        with pytest.raises(
            ConfigError, match=r"params\.actor\..* there and .* here; .*agent\.actor\.units: 8 against 9"
        ):
            find_start(path, with_units(9), silent)
        with pytest.raises(ConfigError, match="another kind of agent"):
            find_start(path, dataclasses.replace(SMALL, agent=PPOConfig(minibatches=2)), silent)


def test_an_existing_run_keeps_what_it_began_with(source: Path, tmp_path: Path) -> None:
    start = find_start(source, SMALL, silent)
    directory = RunDirectory(tmp_path / "run")
    settle_start(directory, str(source), start)
    directory.check()  # killed before its configuration was written, the same command begins again
    settle_start(directory, None, None)
    assert read_start(directory.start) is None  # ... and another one afresh
    settle_start(directory, str(source), start)
    save_experiment(directory.config, SMALL)
    settle_start(directory, str(source), None)
    settle_start(directory, None, None)
    with pytest.raises(ConfigError, match=f"begun with those of {source}, not with --from other"):
        settle_start(directory, "other", None)
    shutil.rmtree(directory.start)
    with pytest.raises(ConfigError, match="begun with fresh parameters"):
        settle_start(directory, str(source), None)


def test_damage_is_found(source: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    settle_start(directory, str(source), find_start(source, SMALL, silent))
    file = directory.start / "parameters.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptError, match="has changed"):
        read_start(directory.start)


@pytest.mark.parametrize("again", [True, False], ids=["--from again", "no --from"])
def test_seeds_that_were_killed_between_two_configurations_all_begin_with_the_same_parameters(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    how, train = How(source=str(source)), tmp_path / "group"
    monkeypatch.setattr(running, "load", lambda *_: None)
    monkeypatch.setattr(running, "fit", lambda *_, **__: True)

    def killed(path: Path, experiment: Experiment, **more: object) -> None:
        if experiment.seed == 8:
            raise KeyboardInterrupt
        save_experiment(path, experiment, **more)

    with monkeypatch.context() as patch:
        patch.setattr(running, "save_experiment", killed)
        with pytest.raises(KeyboardInterrupt):
            running.run_seeds(AVERAGED, train, count=2, how=how)
    seeds = [RunDirectory(train / f"seed-{seed}") for seed in (7, 8)]
    assert [directory.exists() for directory in seeds] == [True, False]
    running.run_seeds(AVERAGED, train, count=2, how=how if again else How())
    first, second = (read_start(directory.start) for directory in seeds)
    assert first is not None and second is not None and first.about == second.about
    jax.tree.map(np.testing.assert_array_equal, dict(first.arrays), dict(second.arrays))
    seeds[1].forget_start()
    with pytest.raises(
        ConfigError, match=r"seed-8 with fresh parameters: seeds train together from the same"
    ):
        running.run_seeds(AVERAGED, train, count=2, how=how)


def test_what_a_training_killed_at_its_start_leaves_is_no_other_thing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for name in ("start", "start.partial", "start.older"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.json.123.partial").write_text("{")
    directory.check()
    directory.forget_start()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json.123.partial"]
