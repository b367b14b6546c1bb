"""Seeds of agents beside each other: statistics with known answers, and input that cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from s5wm.cli import main
from s5wm.comparison import (
    Curve,
    common_budget,
    compare,
    estimate,
    grouped,
    interquartile_mean,
    load_curve,
    markdown,
    on_grid,
    summarise,
)
from s5wm.errors import ConfigError, CorruptError


def curve(success, *, agent="a cpu", seed=0, task="hover", lap=None, pace=1.0):
    steps = 1e6 * np.arange(1, len(success) + 1)
    lap = np.full(len(success), np.nan) if lap is None else np.asarray(lap, float)
    signals = {
        "eval/success": np.asarray(success, float),
        "eval/lap_time": lap,
        "eval/return_nominal": np.asarray(success, float),
        "eval/gates": np.asarray(success, float),
    }
    return Curve(
        task=task, agent=agent, seed=seed, env_steps=steps, minutes=pace * steps / 1e6, signals=signals
    )


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([5.0], 5.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 10.0, 11.0, 100.0], 10.5),  # the middle two
        # A third of the mass each; the middle half holds all of the middle third and a twelfth of each other.
        ([100.0, 3.0, 1.0], (3.0 / 3 + (1.0 + 100.0) / 12) / 0.5),
    ],
)
def test_interquartile_mean_of_few_values(values, mean):
    assert interquartile_mean(np.array(values)) == pytest.approx(mean)


def test_an_estimate_contains_its_value_and_equal_seeds_leave_no_doubt():
    spread = estimate([0.0, 0.2, 0.4, 0.6, 0.9, 1.0])
    assert 0.0 <= spread.low < spread.value < spread.high <= 1.0
    few = estimate([1.0, 2.0, 4.0])
    assert (few.low, few.high) == (1.0, 4.0)
    alike = estimate([0.7, 0.7, 0.7])
    assert alike.low == pytest.approx(0.7) == alike.high


def test_a_grid_holds_the_last_evaluation():
    held = on_grid(curve([0.1, 0.5]), "eval/success", np.array([0.5e6, 1e6, 1.9e6, 2e6, 9e6]))
    np.testing.assert_array_equal(held, [np.nan, 0.1, 0.1, 0.5, 0.5])


def test_a_summary_counts_within_the_common_budget():
    seeds = [
        curve([0, 0.95, 1.0, 0.0], lap=[np.nan, 6.0, 5.0, np.nan]),
        curve([0, 0, 1.0, 1.0, 1.0], seed=1, lap=[np.nan, np.nan, 5.0, 4.0, 3.0], pace=2.0),
    ]
    budget = common_budget(seeds)
    assert budget == 4e6
    summary = summarise(seeds, budget)
    assert (summary.seeds, summary.mastered) == (2, 2)
    assert summary.best_success.value == 1.0
    assert summary.lap_time.value == pytest.approx(4.5)  # 5.0 and, not 3.0 beyond the budget, 4.0
    assert summary.end_success.value == pytest.approx((0.5 + 1.0) / 2)  # evaluations at 3 M and 4 M
    assert summary.steps_to_mastery.value == pytest.approx(2.5e6)
    assert summary.minutes_to_mastery.value == pytest.approx(4.0)
    assert "| `a cpu` | 2 | 100% |" in markdown("hover", [summary], budget)


def test_what_was_never_reached_is_left_empty():
    summary = summarise([curve([0.0, 0.0])], 2e6)
    assert (summary.mastered, summary.lap_time, summary.steps_to_mastery) == (0, None, None)
    assert "|  | 0 of 1 |  |  |" in markdown("hover", [summary], 2e6)


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ConfigError, match="runs of hover, race cannot be compared"):
        grouped([curve([0]), curve([0], task="race")])
    with pytest.raises(ConfigError, match="two runs of a cpu have seed 0"):
        grouped([curve([0]), curve([1])])


def recorded(path: Path, agent: str, seed: int) -> Path:
    rows = [
        {"env_steps": n * 1e6, "minutes": n, "eval/success": n / 4, "eval/lap_time": None}
        for n in range(1, 5)
    ]
    name = {"task": "hover", "agent": agent, "size": "cpu"}
    path.write_text(json.dumps({"name": name, "training_seed": seed, "curve": rows}))
    return path


def test_the_verb_compares_recorded_trainings(tmp_path, capsys):
    paths = [
        recorded(tmp_path / f"{agent}{seed}.json", agent, seed)
        for agent in ("s5wm", "ppo")
        for seed in (0, 1)
    ]
    with pytest.raises(SystemExit) as exit_:
        main(["compare", *map(str, paths), "--out", str(tmp_path / "picture"), "--json"])
    assert exit_.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert [agent["agent"] for agent in said["agents"]] == ["s5wm cpu", "ppo cpu"]  # as AGENTS lists them
    assert said["agents"][1]["steps_to_mastery"]["value"] == 4e6
    for suffix in (".png", ".svg"):
        assert (tmp_path / "picture").with_suffix(suffix).stat().st_size > 10_000


def test_a_run_that_was_judged_too_late_is_refused(tmp_path):
    early = recorded(tmp_path / "early.json", "s5wm", 0)
    early.write_text(early.read_text().replace("000000.0", "000.0"))
    with pytest.raises(
        ConfigError, match="was first evaluated after 1,000,000 environment steps, beyond the 4,000"
    ):
        compare([early, recorded(tmp_path / "late.json", "ppo", 0)])


def test_files_that_are_no_trainings_are_refused(tmp_path):
    path = tmp_path / "odd.json"
    path.write_text("{}")
    with pytest.raises(CorruptError, match="is not a recorded training"):
        load_curve(path)
