import functools as ft
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.errors import CorruptError, DivergedError
from s5wm.evaluation.result import EvalResult, finite_score, keep_best
from s5wm.experiments.experiment import Experiment
from s5wm.runs.checkpoint import Checkpoints
from s5wm.runs.directory import RunDirectory
from s5wm.runs.files import read_json, write_json, write_manifest
from s5wm.training.fit import load
from s5wm.training.host import HostState
from s5wm.training.loop import iterate_many
from s5wm.training.run import Trainer
from s5wm.training.state import TrainState, init_train
from s5wm.training.stop import SIGNALS

from ...tiny import DREAMERV3, S5WM, learning
from .conftest import RecordingSink, alone, trained, with_steps

TIMES = ("minutes", "wall_minutes", "eta_minutes", "env_steps_per_s", "updates_per_s", "time/")


pytestmark = pytest.mark.usefixtures("one_compile_for_all")


def assert_bitwise(left: Any, right: Any) -> None:
    paths = jax.tree_util.tree_leaves_with_path(left)
    for (path, a), b in zip(paths, jax.tree.leaves(right), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jr.key_data(a), jr.key_data(b)
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def untimed(sink: RecordingSink) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in sink.rows]


def assert_resumes_exactly(experiment: Experiment, tmp_path: Path) -> None:
    whole_ears, part_ears = RecordingSink(), RecordingSink()
    whole = trained(experiment, tmp_path / "whole", whole_ears)
    trained(with_steps(experiment, experiment.train.env_steps // 2), tmp_path / "parts", part_ears)
    parts = trained(experiment, tmp_path / "parts", part_ears)
    assert len(whole_ears.rows) == 4
    assert_bitwise(whole.state, parts.state)
    untold = {"minutes": 0.0, "wall_minutes": 0.0}
    assert replace(whole.host, **untold) == replace(parts.host, **untold)
    assert untimed(whole_ears) == untimed(part_ears)


def without_curriculum(experiment: Experiment) -> Experiment:
    # Halving the budget to stop in the middle would otherwise move the fallback.
    curriculum = replace(experiment.train.curriculum, fallback=2.0, success=2.0)
    return replace(experiment, train=replace(experiment.train, curriculum=curriculum))


@pytest.mark.parametrize(
    "agent", [PPOConfig(units=4, layers=1), S5WM, DREAMERV3], ids=["ppo", "s5wm", "dreamerv3"]
)
def test_one_program_begins_and_resumes(tiny: Experiment, agent: DreamerConfig | PPOConfig) -> None:
    # Weak types do not live through a checkpoint; a program traced without them may round otherwise.
    program, config = replace(tiny, agent=agent).build(), tiny.train
    state = init_train(program.env, program.agent, config.num_envs, 0)
    advance = ft.partial(iterate_many, length=config.rollout_length, iterations=config.iterations_per_chunk)
    after, *_ = jax.eval_shape(advance, program.env, program.agent, state)
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True
    ):
        assert not (getattr(old, "weak_type", False) or new.weak_type), jax.tree_util.keystr(path)
        assert (old.shape, old.dtype) == (new.shape, new.dtype), jax.tree_util.keystr(path)


def test_stopped_and_resumed_is_bitwise_the_same_as_never_stopped(tiny: Experiment, tmp_path: Path) -> None:
    assert_resumes_exactly(without_curriculum(tiny), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [S5WM, pytest.param(DREAMERV3, marks=pytest.mark.faults)],
    ids=["s5wm", "dreamerv3"],
)
def test_a_world_model_agent_resumes_bitwise_with_its_replay(
    tiny: Experiment, tmp_path: Path, agent: DreamerConfig
) -> None:
    assert_resumes_exactly(without_curriculum(replace(tiny, agent=learning(agent))), tmp_path)


def test_the_log_and_the_best_policy(tiny: Experiment, run_path: Path, sink: RecordingSink) -> None:
    trainer = trained(replace(tiny, train=replace(tiny.train, time_pieces=True)), run_path, sink)
    assert [row["env_steps"] for row in sink.rows] == [64, 128, 192, 256]
    assert [("eval/success" in row) for row in sink.rows] == [False, True, False, True]
    assert [row["updates"] for row in sink.rows] == [4, 8, 12, 16]
    for row in sink.rows:
        shares = [row["time/world_model"], row["time/actor_critic"], row["time/collect"]]
        assert min(shares) >= 0
        assert row["env_steps_per_s"] > 0
    assert trainer.checkpoints.steps() == [128, 192, 256]
    assert (run_path / "best" / "policy.npz").is_file()
    assert trainer.host.best is not None


def scored(score: tuple[float, ...]) -> EvalResult:
    return EvalResult(
        success=None, score=score, row={}, metrics={}, headline="", save_flights=lambda *_, **__: None
    )


@pytest.mark.parametrize(
    "change", [1.0, -1.0], ids=["found after the checkpoint", "put there by an evaluation"]
)
def test_the_score_to_beat_is_that_of_the_kept_policy(
    tiny: Experiment, run_path: Path, sink: RecordingSink, change: float
) -> None:
    trainer = trained(tiny, run_path, sink)
    assert trainer.host.best is not None
    other = (trainer.host.best[0] + change, *trainer.host.best[1:])
    policy, best = trainer.program.agent.policy(trainer.state.learner), trainer.directory.best
    keep_best(best, policy, scored(other), 300)
    trainer.restore(trainer.newest(pytest.fail))
    assert trainer.host.best == other
    (best / "policy.npz").write_bytes(b"")
    trainer.restore(trainer.newest(pytest.fail))
    assert trainer.host.best is None
    shutil.rmtree(best)
    trainer.restore(trainer.newest(pytest.fail))
    assert trainer.host.best is None


def test_a_kept_policy_of_a_version_without_scores_has_that_of_the_checkpoint(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    trainer = trained(tiny, run_path, sink)
    before, best = trainer.host.best, trainer.directory.best
    judged = {name: value for name, value in read_json(best / "eval.json").items() if name != "score"}
    write_json(best / "eval.json", judged)
    write_manifest(best)
    trainer.restore(trainer.newest(pytest.fail))
    assert trainer.host.best == before is not None


def test_pieces_are_timed_on_request_only(tiny: Experiment, run_path: Path, sink: RecordingSink) -> None:
    """They are compiled for it."""
    trained(with_steps(tiny, 64), run_path, sink)
    assert [name for name in sink.rows[0] if name.startswith("time/")] == []


def test_the_first_evaluation_saves_a_checkpoint(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    trainer = trained(replace(tiny, train=replace(tiny.train, checkpoint_every=10**9)), run_path, sink)
    assert trainer.config.eval_every == 128
    assert trainer.checkpoints.steps() == [128, 256]


def test_a_used_budget_trains_no_more(tiny: Experiment, run_path: Path, sink: RecordingSink) -> None:
    trained(tiny, run_path, sink)
    trained(tiny, run_path, sink)
    assert len(sink.rows) == 4


def test_the_last_chunk_is_cut_to_the_budget_and_changes_nothing(tiny: Experiment, tmp_path: Path) -> None:
    steady, whole, parts = without_curriculum(tiny), RecordingSink(), RecordingSink()
    expected = trained(steady, tmp_path / "whole", whole)
    assert not any("whole iterations" in text for text in whole.texts)
    trained(with_steps(steady, 150), tmp_path / "parts", parts)
    assert [row["env_steps"] for row in parts.rows] == [64, 128, 160]
    assert [("eval/success" in row) for row in parts.rows] == [False, True, True]
    assert [row["updates"] for row in parts.rows] == [4, 8, 10]
    told = "trains 160 environment steps for the 150 of its budget: whole iterations of 32, 8 steps of 4 environments"
    assert told in "\n".join(parts.texts)
    again = trained(steady, tmp_path / "parts", parts)
    assert [row["env_steps"] for row in parts.rows] == [64, 128, 160, 224, 256]
    assert_bitwise(expected.state, again.state)


def test_the_smoothing_weight_reaches_the_agent_and_survives(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    curriculum = replace(tiny.train.curriculum, earliest=0.0, fallback=0.25, ramp=0.5)
    tiny = replace(tiny, train=replace(tiny.train, curriculum=curriculum))
    trainer = trained(tiny, run_path, sink)
    assert [row["smoothing_weight"] for row in sink.rows] == [0.0, 0.0, 0.5, 1.0]
    assert float(trainer.state.smoothing_weight) == 1.0
    assert trainer.host.curriculum.switched


def test_a_larger_budget_takes_back_nothing_of_the_smoothing_weight(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    """What our own message advises once a budget is used up: the same run with a larger one."""
    curriculum = replace(tiny.train.curriculum, earliest=0.0, fallback=0.25, ramp=0.5)
    tiny = replace(tiny, train=replace(tiny.train, curriculum=curriculum, decay_from=0.5, decay_to=0.2))
    trained(with_steps(tiny, 192), run_path, sink)
    trained(with_steps(tiny, 512), run_path, sink)
    weights = [row["smoothing_weight"] for row in sink.rows]
    # A third of the first budget, then an eighth of the second with each chunk.
    assert weights == pytest.approx([0.0, 0.0, 2 / 3, 1.0, 1.0, 1.0, 1.0, 1.0])
    # Rates are those of the budget that a run has now: they rise again, and that is said.
    rates = [row["health/rate"] for row in sink.rows]
    assert rates == pytest.approx([1.0, 1.0, 0.8 / 1.5 + 0.2, 1.0, 1.0, 0.8, 0.6, 0.4])
    assert any("learning rates rise from 0.73 to 1 of their full values" in text for text in sink.texts)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_chunk_and_saves(
    tiny: Experiment,
    run_path: Path,
    sink: RecordingSink,
    number: signal.Signals,
    request: pytest.FixtureRequest,
) -> None:
    started_with = signal.signal(number, signal.SIG_DFL)  # one that is ignored stays so
    request.addfinalizer(lambda: signal.signal(number, started_with))
    program = tiny.build()

    def kill(_: TrainState[Any]) -> dict[str, float]:  # called once, in the first chunk
        os.kill(os.getpid(), number)
        time.sleep(0.5)  # the thread that listens needs its turn
        return {"collect": 0.0, "world_model": 0.0}

    trainer = trained(
        replace(tiny, train=replace(tiny.train, checkpoint_every=10**9)),
        run_path,
        sink,
        replace(program, time_pieces=kill),
    )
    assert trainer.host.env_steps == 64
    assert trainer.checkpoints.steps() == [64]
    assert any(number.name in text for text in sink.texts)
    assert signal.getsignal(number) == signal.SIG_DFL


def test_an_error_after_a_chunk_is_raised_once_the_chunk_is_saved(
    tiny: Experiment, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(RecordingSink):
        def write_row(self, row: dict[str, float]) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    rarely = replace(tiny, train=replace(tiny.train, checkpoint_every=10**9))
    with pytest.raises(BrokenPipeError):
        trained(rarely, run_path, Broken())
    checkpoints = Checkpoints(RunDirectory(run_path).checkpoints, keep=1)
    assert checkpoints.newest(pytest.fail) == checkpoints.path(64)


def poisoned(trainer: Trainer) -> None:
    trainer._state = eqx.tree_at(
        lambda s: s.learner.params.log_std, trainer.state, jnp.full(1, jnp.nan, jnp.float32)
    )


def test_a_policy_that_is_not_finite_rolls_back_and_training_goes_on(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    trained(with_steps(tiny, 128), run_path, sink)
    with RunDirectory(run_path) as directory:
        trainer = Trainer(tiny.build(), tiny.train, directory, 0)
        load([trainer], sink.write_line)
        poisoned(trainer)
        assert alone(trainer, sink)
    said = "\n".join(sink.texts)
    assert "at 192 environment steps the policy's action for environment 0 was not finite at step 0" in said
    assert "rolled back to 128 environment steps, learning rates now times 0.5" in said
    assert float(trainer.state.learner.guard.rate) == 0.5
    assert trainer.host.failures == ()  # well beyond the place
    assert [row["env_steps"] for row in sink.rows] == [64, 128, 192, 256]
    with np.load(run_path / "diverged" / "000000000192.npz", allow_pickle=False) as kept:
        assert "0.obs" in kept.files


def test_a_failure_after_others_that_an_older_checkpoint_remembers_is_remedied_too(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    """A save forgets failures that lie well behind; if it is lost, the one before still has them."""
    trainer = trained(with_steps(tiny, 128), run_path, sink)
    trainer.host = replace(trainer.host, failures=("an older reason",), failed_at=128)
    trainer.save(sink)
    trainer.checkpoints.wait()
    with RunDirectory(run_path) as directory:
        again = Trainer(tiny.build(), tiny.train, directory, 0)
        load([again], sink.write_line)
        again.host = replace(again.host, failures=())
        poisoned(again)
        assert alone(again, sink)
    assert "rolled back to 128 environment steps, learning rates now times 0.5" in "\n".join(sink.texts)


def test_repeated_failure_ends_with_the_story_and_the_last_good_checkpoint(
    tiny: Experiment, run_path: Path, sink: RecordingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(with_steps(tiny, 128), run_path, sink)
    with RunDirectory(run_path) as directory:
        trainer = Trainer(tiny.build(), tiny.train, directory, 0)
        restore = trainer.restore

        def restore_and_poison(checkpoint: Path | None) -> None:
            restore(checkpoint)
            poisoned(trainer)

        monkeypatch.setattr(trainer, "restore", restore_and_poison)
        load([trainer], sink.write_line)
        with pytest.raises(DivergedError, match="rolling back 3 times did not help: at 192") as caught:
            alone(trainer, sink)
    assert caught.value.exit_code == 70
    assert trainer.checkpoints.steps() == [64, 128]


def test_when_no_checkpoint_is_valid_nothing_starts_over_silently(
    tiny: Experiment, run_path: Path, sink: RecordingSink
) -> None:
    trainer = trained(with_steps(tiny, 64), run_path, sink)
    (trainer.checkpoints.path(64) / "host.json").unlink()
    with pytest.raises(CorruptError, match="no checkpoint"):
        trained(tiny, run_path, sink)


def test_host_state_through_json() -> None:
    state = HostState(env_steps=5, minutes=1.5, wall_minutes=2.5, updates=3, best=(1.0, -5.0, 2.0))
    from dataclasses import asdict

    assert HostState.from_json(asdict(state), weight=0.5, updates=7) == state
    stored = asdict(state) | {"best": (None, 2.0)}  # JSON has no infinity
    best = HostState.from_json(stored, weight=0.5, updates=7).best
    assert best is not None and best < (-1e300, 0.0)
    assert [finite_score(x) for x in (float("nan"), 1.5)] == [-sys.float_info.max, 1.5]
    assert finite_score(float("inf")) == sys.float_info.max
