"""The scripts in benchmarks/: each answers --help, and imports the source of its own checkout."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from s5wm.deploy.runtime.loop import Period
from s5wm.deploy.runtime.pilot import Mode

ROOT = Path(__file__).parents[2]

ASKED = """
import contextlib, importlib.util, io, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
for file in sorted(folder.glob("*.py")):
    text = file.read_text()
    if "def main" not in text or ("selenium" in text and not importlib.util.find_spec("selenium")):
        continue
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # dataclasses look there
    spec.loader.exec_module(script)
    sys.argv = [str(file), "--help"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            script.main()
    except SystemExit as end:
        assert not end.code and "usage:" in said.getvalue(), file
    else:
        raise AssertionError(f"{file} does not answer --help")
    print(file.stem)
import s5wm
print(s5wm.__file__)
"""


def test_every_benchmark_answers_help_from_the_source_of_its_checkout() -> None:
    # In one process, as each would import JAX anew.
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(ROOT / "benchmarks")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *scripts, imported = done.stdout.split()
    assert len(scripts) >= 18
    assert Path(imported).is_relative_to(ROOT / "src")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script; what it changes of the process is undone."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.delitem(sys.modules, "checkout", raising=False)
    return importlib.import_module


CURVE = [
    {"env_steps": 100 * n, "eval/success": success} for n, success in enumerate((0.5, 0.95, 0.0, 0.9), 1)
]


def test_mastery_lies_between_two_evaluations(script) -> None:
    of = script("mastery")
    found = of.mastery(CURVE)
    assert (found.first["env_steps"], found.before, found.is_bound) == (200, 100, False)
    assert (found.later, found.good_later, found.share_later) == (2, 1, 0.5)
    at_once = of.mastery(CURVE[1:])
    assert at_once.is_bound and at_once.before is None
    assert of.mastery(CURVE[:1]) is None and of.mastery(CURVE[3:]).share_later is None
    assert of.spacing(CURVE) == 100 and of.spacing(CURVE[:1]) is None


def test_what_was_so_good_from_the_first_evaluation_on_is_a_bound(script) -> None:
    between = script("tables")._between
    assert between(2.0, [1.0, 3.0], "{:.0f}", [True, False]) == "<= 2 [<= 1, 3]"
    assert between(2.0, [1.0, 3.0], "{:.0f}", [True, True]) == "<= 2 [<= 1, <= 3]"
    assert between(1.0, [1.0], "{:.0f}", [True]) == "<= 1"
    assert between(2.0, [1.0, 3.0], "{:.0f}") == "2 [1, 3]"


def test_seeds_of_one_row_that_differ_are_told(script) -> None:
    def result(seed: int, units: int) -> dict[str, Any]:
        config = {"seed": seed, "train": {"env_steps": seed}, "agent": {"units": units}}
        name = {"task": "hover", "agent": "ppo", "size": "cpu"}
        return {"name": name, "config": config, "training": {"commit": f"commit{units}"}}

    tables = script("tables")
    assert tables._differences([result(0, 8), result(1, 8)]) == ""
    assert "`hover`, `ppo`: `agent.units`." in tables._differences([result(0, 8), result(1, 16)])
    assert tables._commits([result(0, 8), result(1, 8)]) == ""
    assert "commit8 (`hover`, `ppo`), commit16 (`hover`, `ppo`)" in tables._commits(
        [result(0, 8), result(1, 16)]
    )


def test_a_timing_of_other_batches_or_horizons_is_not_that_of_a_training(script) -> None:
    alike = script("tables")._timed_alike
    own = {"starts": 64, "horizon": 10, "batch": 16, "length": 32}
    learning = {"num_imagination_starts": 64, "imagination_horizon": 10}
    result = {
        "name": {"agent": "s5wm"},
        "config": {"agent": {"actor_critic": learning, "replay": {"batch": 16, "length": 32}}},
    }
    assert alike({"s5wm": own}, result) == own
    for name in own:
        assert alike({"s5wm": {**own, name: 8}}, result) is None


def period(*, wake: float, latency: float, skipped: int = 0) -> Period:
    return Period(0.0, wake, latency, Mode.POLICY, None, None, None, 0, skipped)


def test_a_period_is_excused_only_where_a_pause_explains_its_delay(script) -> None:
    misses = script("punctual").misses
    pauses = np.array([[1.0, 0.0015], [2.0, 0.008], [3.005, 0.021]])  # beginning and length, s
    flown = [
        (0.0, period(wake=0.0, latency=0.001)),  # on time
        (1.0, period(wake=0.002, latency=0.006)),  # 4.5 ms of its 6 ms are its own
        (2.0, period(wake=0.008, latency=0.009)),  # on time but for the pause
        (3.02, period(wake=0.006, latency=0.007, skipped=2)),  # of two before it one was its own fault
    ]
    found = misses(flown, pauses, 0.01, 0.002)
    assert [(round(each["at"], 3), each["is_skipped"], each["is_excused"]) for each in found] == [
        (1.0, False, False),
        (2.0, False, True),
        (3.0, True, False),
        (3.01, True, True),
        (3.02, False, True),
    ]


def test_a_measurement_that_is_cut_off_leaves_the_one_before(script, tmp_path: Path) -> None:
    output, file = script("output"), tmp_path / "results" / "a.json"
    output.keep(file, {"n": 1})
    assert not file.exists()
    output.complete(file)
    output.keep(file, {"n": 2})
    assert json.loads(file.read_text()) == {"n": 1}
    assert list(file.parent.glob("*.json")) == [file]


def test_a_measurement_of_starts_removes_nothing_but_its_own_folder(
    script, tmp_path: Path, monkeypatch
) -> None:
    startup = script("startup")
    (tmp_path / "precious").mkdir()
    seen: list[Path] = []
    monkeypatch.setattr(startup, "measure", lambda options, runs: seen.append(runs))
    monkeypatch.setattr(sys, "argv", ["startup.py", "--runs", str(tmp_path)])
    startup.main()
    assert seen[0].parent == tmp_path and not seen[0].exists()
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_parts_of_the_fault_tests_keep_where_they_were_measured(script, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    earlier = script("faults").earlier
    assert earlier(file) == {}
    file.write_text(json.dumps({"device": "old", "commit": "last", "results": {"kills": {"commit": "own"}}}))
    assert earlier(file) == {"kills": {"device": "old", "commit": "own"}}
    file.write_text(json.dumps({"results": {"kills": {"device": "new"}}}))
    assert earlier(file) == {"kills": {"device": "new"}}


def test_results_of_an_export_have_the_name_of_its_policy(script, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = script("transfer")
    card = SimpleNamespace(origin=SimpleNamespace(run="runs/mine"))
    monkeypatch.setattr(transfer, "open_export", lambda folder: card)
    flown: list[tuple[str, Path]] = []
    monkeypatch.setattr(
        transfer, "fly", lambda policy, folder, card, arguments: flown.append((policy, folder))
    )
    monkeypatch.setattr(sys, "argv", ["transfer.py", "--export", "exported"])
    transfer.main()
    assert flown == [("mine", Path("exported"))]


def test_what_was_not_measured_is_no_error_of_a_table(script) -> None:
    tables = script("tables")
    assert tables._nominal({"success_rate": 0.0, "lap_time_mean": None}) == "0"
    assert tables._nominal({"success_rate": 1.0, "lap_time_mean": 5.0}) == "100 at 5.00 s"
    with pytest.raises(SystemExit, match="published returns are those at 100000"):
        tables._controlled([{"trained": {"env_steps": 500_000, "minutes": 1.0}}], 100_000)
