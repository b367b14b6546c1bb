import os
import subprocess
import sys
from pathlib import Path

import pytest

from s5wm.errors import RunDirectoryError
from s5wm.runs.directory import RunDirectory


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunDirectoryError, match="not writable"):
        RunDirectory(tmp_path / "run").check()
