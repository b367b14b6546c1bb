"""The commit of a result: marked where what the result depends on has changed, and by nothing else."""

import subprocess
from pathlib import Path

import pytest

from s5wm.runs.provenance import commit_of


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("src/s5wm/a.py", "docs/page.md", "benchmarks/b.py", "pyproject.toml", "results/c.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "is_marked"),
    [
        ("src/s5wm/a.py", True),
        ("src/s5wm/new.py", True),
        ("benchmarks/b.py", True),
        ("pyproject.toml", True),
        ("examples/trainings/new.py", True),
        ("src/notes.txt", False),
        ("docs/page.md", False),
        ("results/c.json", False),
        ("new.py", False),
    ],
)
def test_only_what_affects_results_marks_a_commit(checkout: Path, name: str, is_marked: bool) -> None:
    clean = commit_of(checkout)
    assert clean is not None and len(clean) == 12
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("2")
    assert commit_of(checkout) == clean + "+" * is_marked


def test_what_is_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
