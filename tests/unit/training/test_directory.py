import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from s5wm.errors import RunDirectoryError
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.run import _settle_configs
from s5wm.runs.directory import RunDirectory, lives
from s5wm.runs.files import write_json


def test_a_directory_has_one_owner(run_path: Path) -> None:
    with (
        RunDirectory(run_path),
        pytest.raises(RunDirectoryError, match=f"in use by process {os.getpid()}"),
        RunDirectory(run_path),
    ):
        pass
    with RunDirectory(run_path):
        pass


def test_the_lock_of_a_killed_process_is_gone(run_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from s5wm.runs.directory import RunDirectory\n"
        "RunDirectory(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", code, str(run_path)], env=environment, check=False, timeout=60)
    assert (run_path / "lock").read_text().strip().isdigit()
    with RunDirectory(run_path):
        assert (run_path / "lock").read_text().strip() == str(os.getpid())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunDirectoryError, match="not empty and not a run"):
        RunDirectory(tmp_path).check()
    with pytest.raises(RunDirectoryError, match="is a file"):
        RunDirectory(tmp_path / "thesis.tex").check()
    with (
        pytest.raises(RunDirectoryError, match=r"cannot use|not writable"),
        RunDirectory(tmp_path / "thesis.tex" / "x"),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_began_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    directory = RunDirectory(tmp_path)
    directory.check()
    assert directory.exists()


def test_every_life_of_a_training_is_kept(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lives(run_path) == []
    with RunDirectory(run_path) as directory:
        for commit in ("first", "second"):
            monkeypatch.setattr("s5wm.experiments.run.provenance", lambda commit=commit: {"commit": commit})
            _settle_configs([(directory, Experiment())])
    assert [life["commit"] for life in lives(run_path)] == ["first", "second"]
    write_json(run_path / "origin.json", {"commit": "last", "cpus": 2})  # a run of before
    assert lives(run_path) == [{"commit": "last", "cpus": 2}]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunDirectoryError, match="not writable"):
        RunDirectory(tmp_path / "run").check()


def test_a_look_at_the_owner_keeps_nobody_out(tmp_path):
    path = tmp_path / "run"
    with RunDirectory(path):
        pass
    with (path / "lock").open(encoding="utf-8") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        done = threading.Timer(0.03, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        done.start()
        with RunDirectory(path) as taken:
            assert taken.owner == str(os.getpid())
        done.join()
