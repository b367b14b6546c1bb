"""Seeds trained together: a run each, stopped, damaged and rolled back like any other."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.errors import ConfigError
from s5wm.experiment import Experiment, save_experiment
from s5wm.running import run_experiment, run_seeds
from s5wm.train.directory import RunDirectory
from s5wm.train.files import read_json
from s5wm.train.fit import Member, fit, load
from s5wm.train.log import read_rows
from s5wm.train.run import Trainer

from .conftest import Ears, with_steps

SEEDS = (0, 5)


pytestmark = pytest.mark.usefixtures("one_compile_for_all")


def begun(stack: ExitStack, experiment: Experiment, path: Path) -> list[Trainer]:
    program, trainers = experiment.build(), []
    for seed in SEEDS:
        directory = stack.enter_context(RunDirectory(path / str(seed)))
        save_experiment(directory.config, replace(experiment, seed=seed))
        trainers.append(Trainer(program, experiment.train, directory, seed))
    return trainers


def trained(experiment: Experiment, path: Path, ears: Sequence[Ears]) -> list[Trainer]:
    with ExitStack() as stack:
        trainers = begun(stack, experiment, path)
        load(trainers, ears[0].say)
        fit(crew(trainers, ears))
    return trainers


def crew(trainers: Sequence[Trainer], ears: Sequence[Ears]) -> list[Member]:
    return [Member(trainer, own, lambda: None) for trainer, own in zip(trainers, ears, strict=True)]


def assert_same(left: Trainer, right: Trainer) -> None:
    for a, b in zip(jax.tree.leaves(left.state), jax.tree.leaves(right.state), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jr.key_data(a), jr.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def pair() -> list[Ears]:
    return [Ears(), Ears()]


@pytest.fixture
def steady(tiny: Experiment) -> Experiment:
    # Halving the budget to stop in the middle would otherwise move the fallback.
    curriculum = replace(tiny.train.curriculum, fallback=2.0, success=2.0)
    return replace(tiny, train=replace(tiny.train, curriculum=curriculum))


def test_every_seed_has_its_own_log_policies_and_checkpoints(
    steady: Experiment, tmp_path: Path, pair: list[Ears]
) -> None:
    trainers = trained(steady, tmp_path, pair)
    for trainer, ears in zip(trainers, pair, strict=True):
        assert [row["env_steps"] for row in ears.rows] == [64, 128, 192, 256]
        assert [("eval/success" in row) for row in ears.rows] == [False, True, False, True]
        assert trainer.checkpoints.steps() == [128, 192, 256]
        assert (trainer.directory.best / "policy.npz").is_file()
    returns = [[row["eval/return_nominal"] for row in ears.rows if "eval/success" in row] for ears in pair]
    assert returns[0] != returns[1]


def test_stopped_and_resumed_is_bitwise_the_same_as_never_stopped(
    steady: Experiment, tmp_path: Path, pair: list[Ears]
) -> None:
    whole = trained(steady, tmp_path / "whole", [Ears(), Ears()])
    trained(with_steps(steady, 128), tmp_path / "parts", pair)
    for left, right in zip(whole, trained(steady, tmp_path / "parts", pair), strict=True):
        assert_same(left, right)


def test_a_kill_between_two_saves_goes_on_from_the_last_one_that_all_have(
    steady: Experiment, tmp_path: Path, pair: list[Ears]
) -> None:
    whole = trained(steady, tmp_path / "whole", [Ears(), Ears()])
    first, _ = trained(with_steps(steady, 192), tmp_path / "parts", pair)
    (first.checkpoints.path(192) / "host.json").unlink()
    again = trained(steady, tmp_path / "parts", pair)
    assert sum("going on at 128 environment steps" in text for text in pair[0].texts) == 2
    for left, right in zip(whole, again, strict=True):
        assert_same(left, right)


def test_seeds_that_stand_far_apart_are_refused(steady: Experiment, tmp_path: Path, pair: list[Ears]) -> None:
    first, second = trained(steady, tmp_path, pair)
    for step in (192, 256):
        (second.checkpoints.path(step) / "host.json").unlink()
    shutil.rmtree(first.checkpoints.path(128))
    with pytest.raises(
        ConfigError, match=r"no checkpoint at the same step .*at 256.*at 128.*go on with each alone"
    ):
        trained(steady, tmp_path, pair)


def test_one_that_diverges_rolls_back_and_the_other_comes_the_same_way_again(
    steady: Experiment, tmp_path: Path, pair: list[Ears]
) -> None:
    whole = trained(steady, tmp_path / "whole", [Ears(), Ears()])
    trained(with_steps(steady, 128), tmp_path / "parts", pair)
    with ExitStack() as stack:
        trainers = begun(stack, steady, tmp_path / "parts")
        load(trainers, pair[0].say)
        bad = trainers[1]
        weights = jnp.full(1, jnp.nan, jnp.float32)
        bad._state = eqx.tree_at(lambda s: s.learner.params.log_std, bad.state, weights)
        assert fit(crew(trainers, pair))
    assert not any("rolled back" in text for text in pair[0].texts)
    assert any("rolled back to 128 environment steps" in text for text in pair[1].texts)
    assert float(bad.state.learner.guard.rate) == 0.5
    assert_same(whole[0], trainers[0])
    assert [row["env_steps"] for row in pair[1].rows] == [64, 128, 192, 256]


@pytest.mark.slow
def test_each_is_a_run_that_goes_on_alone(
    steady: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, paths = run_seeds(replace(steady, seed=3), tmp_path / "both", count=2)
    assert finished
    assert [path.name for path in paths] == ["seed-3", "seed-4"]
    assert read_json(paths[1] / "origin.json")["seeds_together"] == 2
    monkeypatch.undo()
    longer = with_steps(replace(steady, seed=4), 320)
    assert run_experiment(longer, paths[1])
    assert [row["env_steps"] for row in read_rows(paths[1] / "metrics.jsonl")] == [64, 128, 192, 256, 320]


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_fewer_than_two_seeds_are_refused(tiny: Experiment, tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigError, match=rf"--seeds is {count}; give 2 or more"):
        run_seeds(tiny, tmp_path / "none", count=count)
