"""A disk that fills while training saves and logs, and places where no run can be."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Command

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Six megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_ends_with_74_and_the_older_checkpoint_goes_on(
    command: Command, small_disk: Path
) -> None:
    run = small_disk / "run"
    assert command.run(*command.train(run, env_steps=64))[0] == 0
    filler = fill(small_disk)
    code, said = command.run(*command.train(run, env_steps=256))
    assert code == 74, said
    assert str(run) in said
    kept = sorted(
        p.relative_to(run / "checkpoints").as_posix() for p in (run / "checkpoints").glob("[0-9p]*")
    )
    assert kept == ["000000000064"]
    assert [p.name for p in (run / "checkpoints" / "blocks").iterdir()] == ["000000000064-0.pack"]
    filler.unlink()
    code, said = command.run(*command.train(run, env_steps=256))
    assert code == 0, said
    assert "going on at 64" in said


def test_names_with_spaces_and_letters_of_any_script(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "a run, with ünicode 飛行"
    assert command.run(*command.train(run, env_steps=64))[0] == 0
    assert command.run("verify", str(run))[0] == 0


@pytest.mark.parametrize("kind", ["loop", "dangling", "file", "read-only"])
def test_places_where_no_run_can_be(command: Command, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "loop":
        place.symlink_to(place)
    elif kind == "dangling":
        place.symlink_to(tmp_path / "file")
        (tmp_path / "file").write_text("")
        place = place / "run"
    elif kind == "file":
        place.write_text("")
    elif os.access("/proc/1", os.W_OK):
        place = Path("/proc/run")  # root writes everywhere but there
    code, said = command.run(*command.train(place, env_steps=64))
    assert code == 73 or (kind == "read-only" and place == tmp_path / "place"), said
    assert "compiling" not in said or code == 0
