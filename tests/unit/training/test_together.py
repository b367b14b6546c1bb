"""Seeds trained together: a run each, stopped, damaged and rolled back like any other."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.errors import ConfigError, DivergedError, RunDirectoryError
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.experiments.run import run_experiment, run_seeds
from s5wm.experiments.trained import find
from s5wm.runs.directory import RunDirectory, lives
from s5wm.runs.log import read_rows
from s5wm.training.fit import SeedRun, fit, load
from s5wm.training.run import Trainer

from ...tiny import S5WM
from .conftest import RecordingSink, with_steps

SEEDS = (0, 5)


pytestmark = pytest.mark.usefixtures("one_compile_for_all")


def begun(stack: ExitStack, experiment: Experiment, path: Path) -> list[Trainer]:
    program, trainers = experiment.build(), []
    for seed in SEEDS:
        directory = stack.enter_context(RunDirectory(path / str(seed)))
        save_experiment(directory.config, replace(experiment, seed=seed))
        trainers.append(Trainer(program, experiment.train, directory, seed))
    return trainers


def trained(experiment: Experiment, path: Path, sinks: Sequence[RecordingSink]) -> list[Trainer]:
    with ExitStack() as stack:
        trainers = begun(stack, experiment, path)
        load(trainers, sinks[0].write_line)
        fit(group(trainers, sinks), sinks[0].write_line)
    return trainers


def group(trainers: Sequence[Trainer], sinks: Sequence[RecordingSink]) -> list[SeedRun]:
    return [SeedRun(trainer, own, lambda: None) for trainer, own in zip(trainers, sinks, strict=True)]


def assert_same(left: Trainer, right: Trainer) -> None:
    for a, b in zip(jax.tree.leaves(left.state), jax.tree.leaves(right.state), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jr.key_data(a), jr.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def pair() -> list[RecordingSink]:
    return [RecordingSink(), RecordingSink()]


@pytest.fixture
def steady(tiny: Experiment) -> Experiment:
    # Halving the budget to stop in the middle would otherwise move the fallback.
    curriculum = replace(tiny.train.curriculum, fallback=2.0, success=2.0)
    return replace(tiny, train=replace(tiny.train, curriculum=curriculum))


def test_every_seed_has_its_own_log_policies_and_checkpoints(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink]
) -> None:
    trainers = trained(steady, tmp_path, pair)
    for trainer, sink in zip(trainers, pair, strict=True):
        assert [row["env_steps"] for row in sink.rows] == [64, 128, 192, 256]
        assert [("eval/success" in row) for row in sink.rows] == [False, True, False, True]
        assert trainer.checkpoints.steps() == [128, 192, 256]
        assert (trainer.directory.best / "policy.npz").is_file()
    returns = [[row["eval/return_nominal"] for row in sink.rows if "eval/success" in row] for sink in pair]
    assert returns[0] != returns[1]


def test_stopped_and_resumed_is_bitwise_the_same_as_never_stopped(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink]
) -> None:
    whole = trained(steady, tmp_path / "whole", [RecordingSink(), RecordingSink()])
    trained(with_steps(steady, 128), tmp_path / "parts", pair)
    for left, right in zip(whole, trained(steady, tmp_path / "parts", pair), strict=True):
        assert_same(left, right)


@pytest.mark.parametrize(("interrupted", "shared"), [(192, 128), (64, 0)])
def test_a_kill_between_two_saves_goes_on_from_the_last_one_that_all_have(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink], interrupted: int, shared: int
) -> None:
    whole = trained(steady, tmp_path / "whole", [RecordingSink(), RecordingSink()])
    first, _ = trained(with_steps(steady, interrupted), tmp_path / "parts", pair)
    shutil.rmtree(first.checkpoints.path(interrupted))
    again = trained(steady, tmp_path / "parts", pair)
    told = f"going on at {shared} environment steps, from {'' if shared else 'the beginning'}"
    assert sum(text.startswith(told) for text in pair[0].texts) == 2
    for left, right in zip(whole, again, strict=True):
        assert_same(left, right)


def test_seeds_that_stand_far_apart_are_refused(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink]
) -> None:
    _, second = trained(steady, tmp_path, pair)
    for step in (192, 256):
        shutil.rmtree(second.checkpoints.path(step))
    assert steady.train.checkpoint_every + steady.train.chunk_steps == 128
    trained(steady, tmp_path, pair)  # as far as a kill can bring them
    for step in (128, 192, 256):
        shutil.rmtree(second.checkpoints.path(step))
    with pytest.raises(ConfigError, match="would lose 256 environment steps .* go on with each alone"):
        trained(steady, tmp_path, pair)


def test_a_budget_of_minutes_ends_for_all_at_once(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink]
) -> None:
    first, second = trained(with_steps(steady, 128), tmp_path, pair)
    second.host = replace(second.host, minutes=5.0, wall_minutes=6.0)
    second.save(pair[1])
    second.checkpoints.wait()
    with ExitStack() as stack:
        trainers = begun(stack, steady, tmp_path)
        load(trainers, pair[0].write_line)
    assert [trainer.host.minutes for trainer in trainers] == [5.0, 5.0]
    assert [trainer.host.wall_minutes for trainer in trainers] == [6.0, 6.0]
    assert first.host.minutes < 5.0


def poisoned(trainer: Trainer) -> None:
    trainer._state = eqx.tree_at(
        lambda s: s.learner.params.log_std, trainer.state, jnp.full(1, jnp.nan, jnp.float32)
    )


def test_one_that_diverges_rolls_back_and_the_other_comes_the_same_way_again(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink]
) -> None:
    whole = trained(steady, tmp_path / "whole", [RecordingSink(), RecordingSink()])
    trained(with_steps(steady, 128), tmp_path / "parts", pair)
    with ExitStack() as stack:
        trainers = begun(stack, steady, tmp_path / "parts")
        load(trainers, pair[0].write_line)
        poisoned(trainers[1])
        assert fit(group(trainers, pair), pair[0].write_line)
    assert not any("rolled back" in text for text in pair[0].texts)
    assert any("rolled back to 128 environment steps" in text for text in pair[1].texts)
    assert float(trainers[1].state.learner.guard.rate) == 0.5
    assert_same(whole[0], trainers[0])
    assert [row["env_steps"] for row in pair[1].rows] == [64, 128, 192, 256]


def rolled_back_once(experiment: Experiment, path: Path) -> Trainer:
    """The first of two seeds, where it alone diverges in the first chunk after 128 steps."""
    sinks = [RecordingSink(), RecordingSink()]
    trained(with_steps(experiment, 128), path, sinks)
    with ExitStack() as stack:
        trainers = begun(stack, experiment, path)
        load(trainers, sinks[0].write_line)
        poisoned(trainers[0])
        fit(group(trainers, sinks), sinks[0].write_line)
    return trainers[0]


def test_what_one_has_changed_after_diverging_outlives_the_divergence_of_another(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink]
) -> None:
    """Or the two would undo each other's remedy for ever."""
    rarely = replace(steady, train=replace(steady.train, checkpoint_every=256))
    once = rolled_back_once(rarely, tmp_path / "once")
    trained(with_steps(rarely, 128), tmp_path / "twice", pair)
    with ExitStack() as stack:
        trainers = begun(stack, rarely, tmp_path / "twice")
        load(trainers, pair[0].write_line)
        poisoned(trainers[0])
        scheduled, chunks = trainers[1].scheduled, iter(range(100))

        def poisoned_in_the_third_chunk() -> Any:
            if next(chunks) == 2:
                poisoned(trainers[1])
            return scheduled()

        trainers[1].scheduled = poisoned_in_the_third_chunk  # type: ignore[method-assign]
        assert fit(group(trainers, pair), pair[0].write_line)
    assert [float(trainer.state.learner.guard.rate) for trainer in trainers] == [0.5, 0.5]
    assert_same(once, trainers[0])  # its other random numbers too
    for sink in pair:
        assert sum("rolled back to 128 environment steps" in text for text in sink.texts) == 1


def test_one_that_gives_up_is_named_and_every_other_has_its_checkpoint(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(with_steps(steady, 128), tmp_path, pair)
    with ExitStack() as stack:
        trainers = begun(stack, steady, tmp_path)
        bad = trainers[1]
        restore = bad.restore

        def restore_and_poison(checkpoint: Path | None) -> None:
            restore(checkpoint)
            poisoned(bad)

        monkeypatch.setattr(bad, "restore", restore_and_poison)
        load(trainers, pair[0].write_line)
        with pytest.raises(DivergedError, match=r"seed 5: .*rolling back 3 times.* s5wm resume RUN"):
            fit(group(trainers, pair), pair[0].write_line)
    assert [trainer.checkpoints.steps() for trainer in trainers] == [[64, 128], [64, 128]]


@pytest.mark.slow
@pytest.mark.faults
def test_world_models_begun_anew_with_their_replays_save_and_go_on(
    steady: Experiment, tmp_path: Path, pair: list[RecordingSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large arrays are saved by what has changed since a checkpoint that may be gone."""
    experiment = replace(steady, agent=S5WM)
    whole = trained(experiment, tmp_path / "whole", [RecordingSink(), RecordingSink()])
    first, _ = trained(with_steps(experiment, 64), tmp_path / "parts", pair)
    shutil.rmtree(first.checkpoints.path(64))
    trained(with_steps(experiment, 192), tmp_path / "parts", pair)
    parts = trained(experiment, tmp_path / "parts", pair)
    assert not any("cannot write" in text for sink in pair for text in sink.texts)
    for left, right in zip(whole, parts, strict=True):
        assert_same(left, right)
        assert right.checkpoints.steps() == [128, 192, 256]


@pytest.mark.slow
def test_each_is_a_run_that_goes_on_alone(
    steady: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    finished, paths = run_seeds(replace(steady, seed=3), tmp_path / "both", count=2)
    assert finished
    assert [path.name for path in paths] == ["seed-3", "seed-4"]
    assert [life["seeds_together"] for life in lives(paths[1])] == [2]
    with pytest.raises(ConfigError, match=r"seed-5 is new, and .*seed-3 has been begun"):
        run_seeds(replace(steady, seed=3), tmp_path / "both", count=3)
    assert not (tmp_path / "both" / "seed-5" / "config.json").exists()
    with pytest.raises(
        RunDirectoryError, match=r"holds the runs of several seeds; name one of .*seed-3, .*seed-4"
    ):
        find(tmp_path / "both")
    with pytest.raises(ConfigError, match="is the run of a single seed"):
        run_seeds(steady, paths[0], count=2)
    longer = with_steps(replace(steady, seed=4), 320)
    assert run_experiment(longer, paths[1])
    assert [row["env_steps"] for row in read_rows(paths[1] / "metrics.jsonl")] == [64, 128, 192, 256, 320]


@pytest.mark.parametrize("count", [-1, 0, 1, 10**9])
def test_too_few_and_too_many_seeds_are_refused(tiny: Experiment, tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigError, match=rf"--seeds is {count}; give 2 to 1000"):
        run_seeds(tiny, tmp_path / "none", count=count)
    with pytest.raises(ConfigError, match=r"end at 4294967296; seeds must lie in"):
        run_seeds(replace(tiny, seed=2**32 - 1), tmp_path / "none", count=2)
