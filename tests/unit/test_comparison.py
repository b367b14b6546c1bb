"""Seeds of agents beside each other: statistics with known answers, and input that cannot be compared."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s5wm.cli import main
from s5wm.errors import ConfigError, CorruptError
from s5wm.evaluation.estimates import estimate, interquartile_mean
from s5wm.experiments.comparison import common_budget, compare, markdown, short_steps, summarise
from s5wm.experiments.curves import Curve, grouped, load_curve
from s5wm.experiments.experiment import Experiment, PresetName, save_experiment
from s5wm.plots.comparison import best_so_far, draw_comparison, on_grid, smoothed
from s5wm.plots.curves import draw_curves
from s5wm.plots.records import read_records
from s5wm.plots.style import house_style
from s5wm.training.config import TrainConfig


def curve(success, *, agent="a cpu", seed=0, task="hover", lap=None, gates=True, pace=1.0):
    steps = 1e6 * np.arange(1, len(success) + 1)
    lap = np.full(len(success), np.nan) if lap is None else np.asarray(lap, float)
    signals = {
        "eval/success": np.asarray(success, float),
        "eval/lap_time": lap,
        "eval/return_nominal": np.asarray(success, float),
        "eval/gates": np.asarray(success, float) if gates else np.full(len(success), np.nan),
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


def test_few_seeds_have_their_range_and_many_an_interval():
    few = estimate([1.0, 2.0, 4.0])
    assert (few.low, few.high, few.seeds) == (1.0, 4.0, 3)
    ten = estimate([float(n) for n in range(10)])
    assert (ten.low, ten.high) == (0.0, 9.0)
    many = estimate([n / 10 for n in range(11)])
    assert 0.0 < many.low < many.value < many.high < 1.0


def test_rates_that_are_all_equal_leave_a_doubt():
    sure = estimate([1.0] * 12, is_rate=True)
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert sure.low == pytest.approx(12 / (12 + 1.96**2), abs=1e-4)  # Wilson, of 12 of 12
    none = estimate([0.0] * 12, is_rate=True)
    assert none.low == 0.0 and none.high == pytest.approx(1.0 - sure.low, abs=1e-4)


def test_the_words_of_the_brackets_are_those_of_the_number_of_seeds():
    few = summarise("a cpu", [curve([0.5], seed=seed) for seed in range(10)], 1e6)
    many = summarise("a cpu", [curve([seed / 11], seed=seed) for seed in range(12)], 1e6)
    assert "in brackets: the lowest and highest seed\n" in markdown("hover", [few])
    assert "in brackets: 95 % interval\n" in markdown("hover", [many])
    assert "of more than 10 seeds, of fewer the lowest and highest" in markdown("hover", [few, many])


def test_rates_are_means_and_returns_of_the_middle_half():
    assert estimate([0.0, 1.0, 0.0], is_rate=True).value == pytest.approx(1 / 3)
    assert estimate([1.0, 1.0, 0.0], is_rate=True).value == pytest.approx(2 / 3)
    assert estimate([0.0, 1.0, 0.0]).value == pytest.approx(1 / 6)
    many = estimate([0.0] * 6 + [1.0] * 10, is_rate=True)
    assert 0.0 < many.low < many.value == 5 / 8 < many.high < 1.0
    with pytest.raises(ValueError, match="at least one seed"):
        estimate([])


def test_what_is_drawn_of_evaluations():
    x, values = 1e6 * np.arange(1, 5), np.array([4.0, np.nan, 6.0, 5.0])
    held = on_grid(x, values, np.array([0.5e6, 1e6, 3.9e6, 9e6]))
    np.testing.assert_array_equal(held, [np.nan, 4.0, 6.0, 5.0])
    np.testing.assert_array_equal(
        best_so_far(np.array([np.nan, 6.0, 7.0, np.nan, 5.0])), [np.nan, 6, 6, 6, 5]
    )
    many = np.arange(1.0, 101.0)
    np.testing.assert_allclose(smoothed(many, 3.0 * many), 3.0 * many)  # does not lag
    np.testing.assert_array_equal(smoothed(x, values), values)  # evaluations far apart stay as they are


def test_a_summary_counts_within_the_common_budget():
    seeds = [
        curve([0, 0.95, 1.0, 0.0], lap=[np.nan, 6.0, 5.0, np.nan]),
        curve([0, 0, 1.0, 1.0, 1.0], seed=1, lap=[np.nan, np.nan, 5.0, 4.0, 3.0], pace=2.0),
    ]
    budget = common_budget(seeds)
    assert budget == 4e6
    summary = summarise("a cpu", seeds, budget)
    assert (summary.seeds, summary.mastered) == (2, 2)
    assert summary.best_success.value == 1.0
    assert summary.lap_time.value == pytest.approx(4.5)  # 5.0 and, not 3.0 beyond the budget, 4.0
    assert summary.end_success.value == pytest.approx((0.5 + 1.0) / 2)  # evaluations at 3 M and 4 M
    assert summary.steps_to_mastery.value == pytest.approx(2.5e6)
    assert summary.minutes_to_mastery.value == pytest.approx(4.0)
    assert summary.end_return.value == pytest.approx((0.5 + 1.0) / 2)
    assert "| `a cpu` | 2 | 100% |" in markdown("hover", [summary])


def test_what_was_never_reached_is_said_and_no_task_has_anothers_columns():
    summary = summarise("a cpu", [curve([0.0, 0.0])], 2e6)
    assert (summary.mastered, summary.lap_time, summary.steps_to_mastery) == (0, None, None)
    table = markdown("hover", [summary])
    assert "| 0 | 0 of 1 | none | none |" in table
    assert "lap" not in table


def test_seeds_of_which_one_never_flew_a_lap():
    flown = [curve([1.0], lap=[lap], seed=seed) for seed, lap in enumerate((5.0, 6.0))]
    summary = summarise("a cpu", [*flown, curve([0.0], seed=2)], 1e6)
    assert summary.best_success.value == pytest.approx(2 / 3)
    assert "| 67% [0%, 100%] | 67% [0%, 100%] | 5.50 s [5.00 s, 6.00 s], 2 of 3 seeds | 2 of 3 |" in markdown(
        "race", [summary]
    )


@pytest.mark.parametrize(("steps", "text"), [(640.0, "640"), (163_840.0, "164 k"), (12e6, "12 M")])
def test_steps_are_told_in_a_unit_that_fits(steps, text):
    assert short_steps(steps) == text


def titles(groups):
    with house_style():
        return [axes.get_title("left") for axes in draw_comparison("x", groups).axes]


def test_panels_are_those_of_the_task_and_a_single_evaluation_is_marked():
    hover = {"a cpu": [curve([0.5], gates=False), curve([0.7], gates=False, seed=1)]}
    assert titles(hover) == ["return", "success"]
    for axes in draw_comparison("x", hover).axes:
        assert all(line.get_marker() == "o" for line in axes.get_lines() if len(line.get_xdata()))
        figures = [axes.xaxis.get_major_formatter()(x, None) for x in axes.get_xticks()]
        assert not any("m" in figure for figure in figures), figures
    race = {"a cpu": [curve([0, 1], lap=[np.nan, 6.0])]}
    assert titles(race) == ["return", "success", "gates per flight", "best lap so far, s"]


def test_the_mean_lap_begins_where_every_seed_that_flies_one_has_flown_one():
    seeds = [
        curve([1, 1, 1], lap=[5.0, 5.0, 4.0]),
        curve([0, 1, 1], lap=[np.nan, 9.0, 6.0], seed=1),
        curve([0, 0, 0], seed=2),
    ]
    mean = draw_comparison("x", {"a cpu": seeds}).axes[3].get_lines()[2]
    x, values = mean.get_xdata(), mean.get_ydata()
    assert np.isnan(values[x < 2e6]).all()
    assert values[-1] == 5.0 and values[x >= 2e6][0] == 7.0
    assert np.all(np.diff(values[x >= 2e6]) <= 0.0)


def test_curves_over_minutes_are_each_seeds_own():
    slow = curve([0.2, 0.6], pace=10.0, gates=False)
    axes = draw_comparison("x", {"a cpu": [slow]}, over="minutes").axes[0]
    assert axes.get_lines()[0].get_xdata().tolist() == [10.0, 20.0]
    assert axes.get_xlabel() == "minutes"


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ConfigError, match="runs of hover, race cannot be compared"):
        grouped([curve([0]), curve([0], task="race")])
    with pytest.raises(ConfigError, match="two runs of a cpu with the same settings and seed 0"):
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


def test_recorded_seeds_with_other_settings_are_told(tmp_path):
    paths = [recorded(tmp_path / f"{seed}.json", "ppo", seed) for seed in (0, 1)]
    for seed, path in enumerate(paths):
        config = {"seed": seed, "train": {"env_steps": seed, "num_envs": 4}, "agent": {"units": 8}}
        path.write_text(json.dumps({**json.loads(path.read_text()), "config": config}))
    assert compare(paths).notes == []
    paths[1].write_text(paths[1].read_text().replace('"units": 8', '"units": 16'))
    (note,) = compare(paths).notes
    assert "the seeds of ppo cpu differ in more than the seed" in note and "agent.units" in note


def test_seeds_that_were_there_at_the_first_evaluation_are_told(tmp_path):
    paths = [recorded(tmp_path / f"{seed}.json", "ppo", seed) for seed in (0, 1)]
    assert compare(paths).notes == []
    paths[0].write_text(paths[0].read_text().replace('"eval/success": 0.25', '"eval/success": 1.0'))
    (note,) = compare(paths).notes
    assert note.startswith("1 of 2 seeds of ppo cpu were at 90 % in their first evaluation")


def test_an_agent_without_a_common_budget_is_compared_within_its_own(tmp_path, capsys):
    early = recorded(tmp_path / "early.json", "s5wm", 0)
    early.write_text(early.read_text().replace("000000.0", "000.0"))
    late = [recorded(tmp_path / f"late{seed}.json", "ppo", seed) for seed in (0, 1)]
    found = compare([early, *late])
    assert found.budget == 4e6 and not found.left_out
    assert [(own.agent, own.seeds, own.budget) for own in found.summaries] == [
        ("s5wm cpu", 1, 4e3),
        ("ppo cpu", 2, 4e6),
    ]
    with pytest.raises(SystemExit) as exit_:
        main(["compare", str(early), *map(str, late), "--out", str(tmp_path / "picture")])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert "each within its own budget" in said
    assert "| `s5wm cpu` | 1 | 4 k |" in said and "| `ppo cpu` | 2 | 4 M |" in said
    within = compare([early, *late], "minutes")  # as many minutes, though not as many steps
    assert [own.budget for own in within.summaries] == [4.0, 4.0]
    assert "the first 4 minutes of each" in markdown("hover", within.summaries, "minutes")


def test_a_seed_that_ended_early_is_left_out_where_others_of_its_agent_went_on(tmp_path):
    early = recorded(tmp_path / "early.json", "ppo", 2)
    early.write_text(early.read_text().replace("000000.0", "000.0"))
    late = [recorded(tmp_path / f"late{seed}.json", "ppo", seed) for seed in (0, 1)]
    found = compare([early, *late])
    assert [(own.seeds, own.budget) for own in found.summaries] == [(2, 4e6)]
    (said,) = found.left_out
    assert said.startswith(
        f"{early} is in the picture, but not in the table: it was evaluated up to 4,000 env"
    )


def trained(run: Path, rows, *, agent="ppo", **changes) -> Path:
    run.mkdir(parents=True)
    name = PresetName(task="hover", agent=agent, size="cpu")
    save_experiment(run / "config.json", replace(Experiment(name=name), **changes))
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def evaluations(count, pace=100):
    return [
        {"env_steps": pace * n, "minutes": n, "eval/success": 0.5, "eval/return_nominal": float(n)}
        for n in range(1, count + 1)
    ]


def test_settings_of_one_agent_are_compared_as_different_agents_and_budgets_do_not_count(tmp_path):
    first = trained(tmp_path / "first", evaluations(3))
    wide = trained(tmp_path / "wide", evaluations(3), agent="ppo", train=TrainConfig(num_envs=128))
    assert list(compare([first, wide]).groups) == ["ppo cpu, first", "ppo cpu, wide"]
    longer = trained(tmp_path / "longer", evaluations(4), seed=1, train=TrainConfig(env_steps=2_000_000))
    assert [len(group) for group in compare([first, longer]).groups.values()] == [2]
    again = trained(tmp_path / "again" / "first", evaluations(3), train=TrainConfig(num_envs=256))
    assert list(compare([first, again]).groups) == [
        f"ppo cpu, {tmp_path.name}/first",
        "ppo cpu, again/first",
    ]


def test_trainings_of_very_different_length_share_a_logarithmic_axis_and_begin_with_their_episodes(tmp_path):
    begun = [
        {"env_steps": n, "minutes": n / 100, "episode/return_nominal": n - 50.0} for n in range(10, 100, 10)
    ]
    short = trained(tmp_path / "short", [*begun, *evaluations(3)])
    long = trained(tmp_path / "long", evaluations(3, pace=10_000), train=TrainConfig(num_envs=128))
    groups = compare([short, long]).groups
    axes = draw_comparison("x", groups).axes[0]
    assert axes.get_xscale() == "log"
    dotted = next(line for line in axes.get_lines() if line.get_linestyle() != "-")
    assert (dotted.get_xdata()[0], dotted.get_ydata()[0]) == (10, -40.0)
    assert draw_comparison("x", groups, over="minutes").axes[0].get_xscale() == "linear"
    records = [run for run in map(read_records, (short, long)) if run is not None]
    assert [axes.get_xscale() for axes in draw_curves(records).axes[:2]] == ["log", "linear"]


def test_the_folder_of_seeds_trained_together_and_rows_of_a_course_that_was_rolled_back(tmp_path, capsys):
    for seed in (0, 10, 2):
        rows = [
            {"env_steps": steps, "minutes": steps / 100, "eval/success": 0.5, "eval/return_nominal": value}
            for steps, value in ((100, 1.0), (200, 9.0), (200, 2.0), (300, 3.0))
        ]
        trained(tmp_path / "runs" / f"seed-{seed}", rows, seed=seed)
    drawn = read_records(tmp_path / "runs" / "seed-0").series("env_steps", "eval/return_nominal")
    compared = load_curve(tmp_path / "runs" / "seed-0")
    for x, values in (drawn, (compared.env_steps, compared.signals["eval/return_nominal"])):
        assert (x.tolist(), values.tolist()) == ([100, 200, 300], [1.0, 2.0, 3.0])
    with pytest.raises(SystemExit) as exit_:
        main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "picture"), "--json"])
    assert exit_.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert [agent["seeds"] for agent in said["agents"]] == [3]


def test_minutes_of_seeds_trained_together_are_told(tmp_path):
    for seed in (0, 1):
        run = trained(tmp_path / f"seed-{seed}", evaluations(3), seed=seed)
        (run / "origin.json").write_text(json.dumps({"seeds_together": 5}))
    alone = trained(tmp_path / "alone", evaluations(3), seed=2)
    found = compare([tmp_path / "seed-0", tmp_path / "seed-1", alone])
    assert sorted(len(group) for group in found.groups.values()) == [1, 2]
    (note,) = found.notes
    assert "are those of 5 seeds trained together, not of one" in note


def test_a_run_without_names_of_a_preset_is_compared():
    assert list(grouped([curve([0.5], agent=" ")])) == [" "]


def test_a_band_is_drawn_for_as_many_seeds_as_have_the_value():
    seeds = [curve([0.5, 1.0], seed=seed, lap=[5.0, 5.0]) for seed in range(10)]
    laps = draw_comparison("x", {"a cpu": [*seeds, curve([0.5, 1.0], seed=10)]}).axes[3]
    assert not laps.collections  # ten of eleven have flown one
    laps = draw_comparison("x", {"a cpu": [*seeds, curve([0.5, 1.0], seed=10, lap=[5.0, 5.0])]}).axes[3]
    assert laps.collections


def test_files_that_are_no_trainings_are_refused(tmp_path):
    path = tmp_path / "odd.json"
    path.write_text("{}")
    with pytest.raises(CorruptError, match="is not a recorded training"):
        load_curve(path)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"evaluation": None}, "AttributeError"),
        ({"lives": ["x"]}, "AttributeError"),
        ({"config": {"train": None}}, "AttributeError"),
        ({"curve": [{"env_steps": 1, "minutes": "1 min"}]}, "1 min"),
        ({"curve": {"a": 1}}, "TypeError"),
        ({"curve": [{"env_steps": 1}]}, "an evaluation lacks minutes"),
        ({"curve": [{"env_steps": None, "minutes": 1.0}]}, "an evaluation lacks env_steps"),
        ({"training_seed": "zero"}, "training_seed is 'zero'"),
        ({"training_seed": [1]}, r"training_seed is \[1\]"),
    ],
)
def test_what_a_recorded_training_lacks_is_told(tmp_path, odd, why):
    path = recorded(tmp_path / "odd.json", "ppo", 0)
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    with pytest.raises(CorruptError, match=f"odd.json is not a recorded training: .*{why}"):
        load_curve(path)


def test_a_shipped_policy_has_no_training_to_compare_and_says_where_it_is(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["compare", "pretrained/split-s"])
    assert caught.value.code == 2
    assert "without the evaluations of its training" in capsys.readouterr().err
