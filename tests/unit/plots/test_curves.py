"""Learning curves: what is read from a log, and what is drawn of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

import s5wm
from s5wm.plots.curves import draw_curves, draw_signals, running_mean
from s5wm.plots.records import RunRecords, facts_of, policy_of, read_json, read_records, title_of
from s5wm.plots.style import CYCLE, house_style
from s5wm.runs.log import Lines
from s5wm.runs.reporting import Column
from s5wm.runs.signals import GROUPS


def test_torn_last_line_and_nan_are_left_out(run_dir):
    records = read_records(run_dir)
    assert len(records.rows) == 10
    steps, laps = records.series("env_steps", "eval/lap_time")
    assert steps.tolist() == [10_000] and laps.tolist() == [5.5]


def test_other_rubbish_in_a_log(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'\n[1]\n{"a": "text", "b": true, "env_steps": 3}\n\xff\xfe{"x')
    assert read_records(tmp_path).rows == ({"env_steps": 3.0},)
    (tmp_path / "metrics.jsonl").write_text("")
    assert read_records(tmp_path) is None
    assert read_records(tmp_path / "nowhere") is None


def test_first_name_found_counts():
    run = RunRecords(name="x", rows=({"env_steps": 1.0, "old": 2.0}, {"env_steps": 2.0, "old": 3.0}))
    assert run.series("env_steps", "new", "old")[1].tolist() == [2.0, 3.0]
    assert len(run.series("env_steps", "new")[0]) == 0


def test_curves_over_steps_and_minutes(run_dir):
    with house_style():
        figure = draw_curves([read_records(run_dir)], bound=5.0)
    left, right = figure.axes[0], figure.axes[1]
    assert [axes.get_title("left") for axes in figure.axes[::2]] == [
        "return",
        "success",
        "lap time, s",
    ]
    *_, dots = left.get_lines()
    assert dots.get_xdata().tolist() == [5000, 10_000] and dots.get_ydata().tolist() == [10, 20]
    assert right.get_lines()[-1].get_xdata().tolist() == [2.5, 5.0]
    assert left.get_xlim()[0] == 0 and left.get_xlim()[1] >= 10_000 and right.get_xlim()[1] < 10
    assert any("5.00" in text.get_text() for text in figure.axes[4].texts)


OWN = tuple(
    {
        "env_steps": float(n),
        "minutes": float(n),
        "episode/success": n / 10,
        "episode/count": 3.0,
        "episode/final_error": 1.0 / n,
        "episode/return_nominal": float(n),
        "episode/length": 50.0,
        "loss/reward_nominal": float(n),
        "loss/decoder": 7.5e-7 + 1e-8 * n,  # rounding, of a latent that is the observation
        "learning_rate": 1e-3 + 1e-6 * (n % 2),
        "smoothing_weight": n / 10,
        **({"eval/return_nominal": 5.0, "eval/success": 0.5} if n == 5 else {}),
    }
    for n in range(1, 11)
)


def test_what_an_environment_of_ones_own_measures_has_panels_and_stands_in_the_lines(capsys):
    with house_style():
        figure = draw_curves([RunRecords(name="x", rows=OWN)])
    titles = ["return", "success", "steps per episode", "final error"]
    assert [axes.get_title("left") for axes in figure.axes[::2]] == titles
    assert len(figure.axes[2].get_lines()) == 3  # training episodes, their mean, evaluations
    Lines([Column(name="episode/length", title="length", form="{:.0f}")]).write_row(OWN[4])
    assert "final error 0.2" in capsys.readouterr().err
    Lines([Column(name="episode/laps", title="laps")]).write_row(OWN[4])  # a task that has chosen
    assert "final error" not in capsys.readouterr().err


def test_the_last_value_stands_beside_all_lines():
    with house_style():
        figure = draw_curves([RunRecords(name="x", rows=OWN)])
        figure.canvas.draw()
    (label,) = figure.axes[0].texts
    ends = max(line.get_xdata()[-1] for line in figure.axes[0].get_lines())
    left = figure.axes[0].transData.inverted().transform(label.get_window_extent().p0)[0]
    assert label.get_text() == "5.0" and left > ends


def test_signals_of_one_reward_have_no_second_one_and_rounding_is_no_panel():
    with house_style():
        figure = draw_signals([RunRecords(name="x", rows=OWN)])
    assert [axes.get_title("left") for axes in figure.axes] == ["reward loss"]
    assert any("constant: learning rate 0.001" in text.get_text() for text in figure.texts)
    two = tuple(row | {"loss/reward_smoothing": row["env_steps"]} for row in OWN)
    with house_style():
        titles = {axes.get_title("left") for axes in draw_signals([RunRecords(name="x", rows=two)]).axes}
    assert titles == {"reward loss", "reward loss, smoothing", "weight of the smoothing reward"}


def test_a_single_logged_row_can_be_seen(tmp_path):
    row = {"env_steps": 512, "minutes": 1.0, "episode/return_nominal": 18.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    one = read_records(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(row | {"env_steps": n}) + "\n" for n in (512, 1024))
    )
    two = read_records(tmp_path)
    with house_style():
        marks = [draw_curves([run]).axes[0].get_lines()[-1].get_marker() for run in (one, two)]
    assert marks == [".", "None"]


def test_each_run_has_its_colour(run_dir):
    records = read_records(run_dir)
    with house_style():
        figure = draw_curves([records, records])
    found = [to_hex(line.get_color()) for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert found == list(CYCLE[:2])


def test_signals_have_names_and_groups_and_log_axes_where_they_help():
    rows = tuple(
        {
            "env_steps": float(n),
            "loss/dyn": np.exp(-n),
            "loss/critic": -n,
            "own/signal": n,
            "health/skipped": 0.0,
        }
        for n in range(1, 11)
    )
    with house_style():
        figure = draw_signals([RunRecords(name="x", rows=rows)])
    assert [axes.get_title("left") for axes in figure.axes] == [
        "dynamics loss (KL)",
        "critic loss, imagined",
        "own/signal",
    ]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]
    words = [text.get_text() for text in figure.texts]
    assert {"World model", "Critic", "Other"} <= set(words) and "Actor" not in words
    assert any("constant: skipped gradient steps 0" in text for text in words)
    heights = {text.get_text(): text.get_position()[1] for text in figure.texts}
    for axes, group in zip(figure.axes, ("World model", "Critic", "Other"), strict=True):
        assert axes.get_position().y1 < heights[group]  # a group stands under its name
    assert draw_signals([RunRecords(name="x", rows=({"env_steps": 1.0},))]) is None


def test_every_signal_of_ours_has_a_name():
    named = {name for group in GROUPS.values() for name in group}
    written = set(re.findall(r'"((?:loss|latent|actor|advantage|policy|return|value)/[a-z_]+)"', sources()))
    assert len(written) > 15 and written <= named


def sources() -> str:
    return "".join(path.read_text() for path in (Path(s5wm.__file__).parent / "agents").rglob("*.py"))


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_running_mean_does_not_lag(count):
    line = np.linspace(3.0, 7.0, count)
    np.testing.assert_allclose(running_mean(line), line)
    noise = np.random.default_rng(0).normal(size=400)
    assert running_mean(noise)[50:-50].std() < 0.35 * noise.std()


def test_words_about_a_run(tmp_path):
    assert title_of(tmp_path) == tmp_path.name and facts_of({}) == ""
    (tmp_path / "eval.json").write_text(
        '{"config": {"name": {"task": "hover", "agent": "ppo", "size": "cpu"}}}'
    )
    assert title_of(tmp_path) == "hover · ppo · cpu"  # what eval --out left
    (tmp_path / "config.json").write_text('{"task": "race/split-s", "agent": "s5wm", "size": ""}')
    assert title_of(tmp_path) == "race/split-s · s5wm"
    assert (
        facts_of({"success_rate": 0.97, "episodes": 100, "lap_time_mean": None})
        == "success 97 % of 100 episodes"
    )
    (tmp_path / "eval.json").write_text('{"success_rate": 0.9')
    assert read_json(tmp_path / "eval.json") == {}
    assert policy_of({"policy": "best", "env_steps": 1_250_000}) == "best policy, 1.25 M steps"
    assert policy_of({"policy": "latest", "env_steps": 640}) == "latest policy, 640 steps"
    assert policy_of({}) == ""


def test_the_title_names_a_track_from_a_file(tmp_path):
    experiment = {"task": {"track": {"type": "FileTrackConfig", "name": "backyard"}}}
    config = {"task": "race/split-s", "agent": "ppo", "size": "cpu", "experiment": experiment}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert title_of(tmp_path) == "race/split-s · backyard · ppo · cpu"
