"""A training from Python that a signal stops ends the script that asked for it."""

import os
import signal
from pathlib import Path

import pytest

import s5wm
from s5wm.experiments import run as running
from s5wm.runs.checkpoint import Checkpoints
from s5wm.runs.log import Lines, TensorBoard

TINY = [
    *(
        "train.num_envs=4",
        "train.rollout_length=8",
        "train.iterations_per_chunk=2",
        "train.eval_every=1000000",
    ),
    *("task.steps=10", "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
]


def test_one_signal_ends_a_script_of_several_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def interrupted(*_: object) -> None:
        if not sent:  # a second one would end the process
            sent.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Lines, "write_row", interrupted)
    with pytest.raises(s5wm.Stopped) as caught:
        for name in ("first", "second"):
            how = {"agent": "ppo", "run": tmp_path / name, "env_steps": 20_000, "overrides": TINY}
            try:
                s5wm.train("toy/double-integrator", **how)
            except Exception:  # noqa: BLE001 - what scripts do so that one failure does not end all
                continue
    assert (caught.value.code, caught.value.path) == (75, tmp_path / "first")
    assert not (tmp_path / "second").exists()
    assert Checkpoints(tmp_path / "first" / "checkpoints", keep=1).newest(pytest.fail) is not None
    assert s5wm.Run(tmp_path / "first").evaluation is None


def test_what_is_written_is_closed_however_a_training_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[TensorBoard] = []
    close = TensorBoard.close

    def closes(sink: TensorBoard) -> None:
        closed.append(sink)
        close(sink)

    def fails(*_: object, **__: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr(running, "fit", fails)
    monkeypatch.setattr(TensorBoard, "close", closes)
    with pytest.raises(OSError, match="no more"):
        s5wm.train("toy/double-integrator", agent="ppo", run=tmp_path / "run", overrides=TINY)
    assert len(closed) == 1


def test_seeds_that_a_signal_stopped_are_told_by_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        running, "run_seeds", lambda *_, **__: (False, [tmp_path / "seed-0", tmp_path / "seed-1"])
    )
    with pytest.raises(s5wm.Stopped) as caught:
        s5wm.train_seeds("toy/double-integrator", count=2, agent="ppo", run=tmp_path)
    assert caught.value.path == tmp_path
