"""The package without the race: nothing of it is known outside its folder and where tasks register."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import s5wm

from ..conftest import ROUGH

REGISTERED = {
    "experiments/tasks.py": (
        r"from s5wm\.envs\.racing[^\n]*\n",
        r"    RacingConfig\n    \| ",
        r"    \*\*RACES,\n",
    ),
    "experiments/names.py": (
        r"from s5wm\.envs\.racing[^\n]*\n",
        r"    \*RACES,\n",
        r"\*IMAGE_RACES,",
        r"\*\*RACE_IDS, ",
    ),
}
"""What to delete besides ``envs/racing``."""

VERBS = {"cli/tracks.py"}
"""Verbs for tracks import the race when they run."""

TESTS = (
    "diagnostics/test_values.py",
    "envs/test_bound_methods.py",
    "envs/test_readable.py",
    "training/test_curriculum.py",
    "training/test_metric_sums.py",
)
"""Tests of other tasks, that take a few seconds together."""

EVERYTHING = """
import importlib, pkgutil, s5wm
for module in pkgutil.walk_packages(s5wm.__path__, "s5wm."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package without the race."""
    root = tmp_path_factory.mktemp("bare")
    skip = shutil.ignore_patterns("__pycache__", "pretrained", "racing")
    copy = shutil.copytree(Path(s5wm.__file__).parent, root / "s5wm", ignore=skip)
    for file, patterns in REGISTERED.items():
        text = (copy / file).read_text()
        for pattern in patterns:
            text, count = re.subn(pattern, "", text)
            assert count, f"{file} has no {pattern}"
        (copy / file).write_text(text)
    return root


def call(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | ROUGH | {"PYTHONPATH": str(package)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environ, cwd=package, capture_output=True, text=True, timeout=900)


def test_no_other_module_imports_the_race(package: Path) -> None:
    found = {
        str(file.relative_to(package / "s5wm"))
        for file in (package / "s5wm").rglob("*.py")
        if re.search(r"s5wm\.envs\.racing[\w.]* import|import s5wm\.envs\.racing", file.read_text())
    }
    assert found <= VERBS


@pytest.mark.slow
def test_every_module_is_imported_without_it(package: Path) -> None:
    done = call(package, "-c", EVERYTHING)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_hover_trains_without_it(package: Path) -> None:
    tiny = [
        "train.num_envs=4",
        "train.rollout_length=8",
        "train.iterations_per_chunk=2",
        "train.eval_episodes=2",
    ]
    tiny += ["task.seconds=0.2", "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"]
    options = [word for item in tiny for word in ("--override", item)]
    done = call(
        package,
        "-m",
        "s5wm",
        "train",
        "hover",
        "--agent",
        "ppo",
        "--run",
        "run",
        "--env-steps",
        "64",
        *options,
    )
    assert done.returncode == 0, done.stderr
    assert (package / "run" / "eval.json").is_file()
    listed = call(package, "-m", "s5wm", "list")
    assert "hover" in listed.stdout and "race/" not in listed.stdout.split("pretrained")[0]


@pytest.mark.faults
def test_tests_of_other_tasks_pass_without_it(package: Path) -> None:
    here = Path(__file__).parent
    rules = ("-c", str(here.parents[1] / "pyproject.toml"), "-o", "pythonpath=", "-p", "no:cacheprovider")
    done = call(package, "-m", "pytest", "-q", *rules, *(str(here / file) for file in TESTS))
    assert done.returncode == 0, done.stdout
