import errno
import io
import json
import sys
from pathlib import Path

import pytest

from s5wm.envs.racing.task import RacingConfig
from s5wm.errors import WriteError
from s5wm.runs.log import JsonLines, Lines, eta_text, read_rows
from s5wm.runs.panel import WIDTH, Panel, sparkline

ROW = {"env_steps": 64, "wall_minutes": 0.5, "loss/policy": 0.25, "eval/success": 0.5, "eval/lap_time": 5.0}


def test_rows_come_back_and_what_json_cannot_hold_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = JsonLines(path, env_steps=0)
    log.write_row({"env_steps": 1, "eta_minutes": float("nan")})
    log.write_row({"env_steps": 2, "loss/x": 0.1})
    assert read_rows(path) == [{"env_steps": 1, "eta_minutes": None}, {"env_steps": 2, "loss/x": 0.1}]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"env_steps": 1}\n[1]\n{"env_steps": "x"}\n\xff\n{"env_steps": 2, "lo')
    assert read_rows(path) == [{"env_steps": 1}]


def test_resuming_removes_what_was_logged_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"env_steps": 1}\n{"env_steps": 2}\n{"env_steps": 3}\n{"env')
    JsonLines(path, env_steps=2).write_row({"env_steps": 5})
    assert [json.loads(line)["env_steps"] for line in path.read_text().splitlines()] == [1, 2, 5]


def test_rows_wait_while_they_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = JsonLines(tmp_path / "metrics.jsonl", env_steps=0)
    log.write_row({"env_steps": 1})
    (tmp_path / "metrics.jsonl").rename(tmp_path / "moved")
    for step in (2, 3):
        log.write_row({"env_steps": step})
    assert capsys.readouterr().err.count("rows wait in memory") == 1
    with pytest.raises(WriteError, match="2 rows are lost"):
        log.close()
    (tmp_path / "moved").rename(tmp_path / "metrics.jsonl")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"env_st')  # what a full disk leaves
    log.write_row({"env_steps": 4})
    log.close()
    assert [row["env_steps"] for row in read_rows(log.path)] == [1, 2, 3, 4]


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_console_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    log = JsonLines(tmp_path / "metrics.jsonl", env_steps=0)
    log.path.unlink()
    panel = Panel("runs/x")
    for sink in (log, Lines(), panel):
        sink.write_row(ROW)
        sink.write_line("a line")
    panel.close()
    assert not log.path.exists()
    log.path.touch()  # the disk takes rows again
    log.write_row(ROW | {"env_steps": ROW["env_steps"] + 1})
    assert [row["env_steps"] for row in read_rows(log.path)] == [ROW["env_steps"], ROW["env_steps"] + 1]


def test_a_course_that_was_rolled_back_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"env_steps": {n}, "x": {i}}}\n' for i, n in enumerate([1, 2, 3, 2, 3, 4])))
    assert [row["x"] for row in read_rows(path)] == [0, 3, 4, 5]


def test_plain_lines_say_the_essentials(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(RacingConfig().columns, every=1000.0)
    lines.write_row(ROW)
    lines.write_row({"env_steps": 65})  # too soon for another line
    lines.write_row({"env_steps": 66, "eval/success": 1.0})  # but never for an evaluation
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.splitlines() == [
        "   0.5 min  steps 64  lap 5.00 s  success 50%  ETA ?",
        "   0.0 min  steps 66  success 100%  ETA ?",
    ]


def test_the_panel_keeps_what_was_said_last(capsys: pytest.CaptureFixture[str]) -> None:
    panel = Panel("runs/x")
    panel.write_row(ROW | {"time/collect": 0.25, "eta_minutes": 3.0})
    panel.write_row({"env_steps": 1_000_000})
    panel.close()
    err = capsys.readouterr().err
    for text in ("runs/x", "1,000,000", "policy loss", "0.25", "collection", "25%", "ETA 3 min"):
        assert text in err, text


def test_a_bracket_in_a_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    panel = Panel("runs/[new]")
    panel.write_row(ROW | {"loss/share [/step]": 0.5})
    panel.close()
    assert "runs/[new]" in capsys.readouterr().err


def test_the_panel_names_one_reward_plainly_and_leaves_out_what_is_rounding(
    capsys: pytest.CaptureFixture[str],
) -> None:
    panel = Panel("runs/x")
    panel.write_row({"env_steps": 1, "loss/decoder": 7.5e-7, "loss/reward_nominal": 0.25})
    panel.close()
    err = capsys.readouterr().err
    assert "reward loss" in err and "nominal" not in err and "reconstruction" not in err


def test_the_panel_tells_the_course_of_the_return_and_the_best_so_far(
    capsys: pytest.CaptureFixture[str],
) -> None:
    panel = Panel("runs/x", RacingConfig().columns, RacingConfig().reported_metrics)
    for step, value in enumerate((1.0, 9.0, 5.0)):
        panel.write_row(
            {"env_steps": step, "episode/return_nominal": value, "loss/dyn": 0.5, "loss/own": 1.0}
        )
    panel.write_row({"env_steps": 9, "eval/success": 0.9, "eval/lap_time": 5.5})
    panel.write_row({"env_steps": 10, "eval/success": 0.2, "eval/lap_time": 5.0})
    panel.close()
    err = capsys.readouterr().err
    for text in (
        "dynamics loss (KL)",
        "loss/own",
        "▁█▅",
        "1.0 to 5.0, at most 9.0",
        "success 90%, lap 5.00 s",
    ):
        assert text in err, text


def test_a_panel_of_a_run_that_goes_on_recalls_what_came_before(capsys: pytest.CaptureFixture[str]) -> None:
    panel = Panel("runs/x")
    panel.recall(
        [
            {
                "env_steps": 1,
                "episode/return_nominal": 1.0,
                "eval/success": 0.69,
                "eval/return_nominal": 125.4,
            },
            {"env_steps": 2, "episode/return_nominal": None, "eval/success": None},
            {"env_steps": 3, "episode/return_nominal": 9.0},
        ]
    )
    panel.write_row({"env_steps": 4, "episode/return_nominal": 5.0, "eval/success": 0.62})
    panel.close()
    err = capsys.readouterr().err
    for text in ("1.0 to 5.0, at most 9.0", "best evaluations so far: success 69%, return 125.4"):
        assert text in err, text


def test_a_sparkline_is_as_wide_as_it_may_be() -> None:
    assert sparkline([]) == ""
    assert sparkline([3.0, 3.0]) == "▁▁"
    rising = sparkline([float(n) for n in range(1000)])
    assert len(rising) == WIDTH and rising == "".join(sorted(rising)) and rising[-1] == "█"


@pytest.mark.parametrize(("minutes", "text"), [(float("nan"), "?"), (5.4, "5 min"), (150.0, "2.5 h")])
def test_eta(minutes: float, text: str) -> None:
    assert eta_text({"eta_minutes": minutes}) == text
