"""A shipped policy is looked at like a run: flown, drawn, asked what it foresees; and a run flies in a changed task."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from s5wm.cli import main
from s5wm.diagnostics.run import imagine_run
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.experiments.experiment import PresetName
from s5wm.experiments.policies import evaluate_agent, evaluate_run, judged_task, kept_in, write_policy
from s5wm.experiments.trained import load_agent
from s5wm.plots.records import policy_of, title_of
from s5wm.runs.directory import RunDirectory
from s5wm.runs.flights import load_flown
from s5wm.runs.predictions import load_predictions
from s5wm.worldmodel.latent import IdentityLatentConfig

from .saved import HORIZON, SMALL, STEPS, save_run

SEEN = dataclasses.replace(  # its latent is the observation: the decoder has no parameters
    SMALL,
    name=PresetName(task="hover", agent="s5wm", size="cpu"),
    agent=dataclasses.replace(
        SMALL.agent, world_model=dataclasses.replace(SMALL.agent.world_model, latent=IdentityLatentConfig())
    ),
)
FEW = ("--episodes", "2", "--json")
SHIPPED = {"policy.npz", "config.json", "eval.json", "manifest.json"}


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "seen", SEEN)


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "seen"))


@pytest.fixture(scope="module")
def shipped(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / "small"
    write_policy(load_agent(saved, which="latest", warn=print), {"env_steps": 192}, folder)
    return folder


def test_eval_draws_the_flight_of_a_run_and_says_whose_it_is(run: Path, capsys) -> None:
    assert call("eval", str(run), *FEW) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == json.loads((run / "eval.json").read_text())
    assert f"drawn: {run / 'plots' / 'flight.png'}" in told.err
    about = load_flown(run / "flights.npz").about
    assert (about["policy"], about["env_steps"], about["episodes"]) == ("latest", 192, 2)
    assert policy_of(about) == "latest policy, 192 steps"
    assert "latest policy, 192 steps" in svg_text(run / "plots" / "flight.svg")


def svg_text(picture: Path) -> str:
    """What matplotlib says of each text in a comment, since it draws letters as outlines."""
    return picture.read_text()


def test_eval_leaves_a_shipped_policy_as_it_is_and_says_so(shipped: Path, tmp_path: Path, capsys) -> None:
    assert call("eval", str(shipped), *FEW) == 0
    assert "--out DIR" in capsys.readouterr().err
    assert names(shipped) == SHIPPED
    assert call("eval", str(shipped), *FEW, "--out", str(tmp_path / "flown")) == 0
    assert names(tmp_path / "flown" / "plots") == {"flight.png", "flight.svg"}
    assert load_flown(tmp_path / "flown" / "flights.npz").about["policy"] == "shipped"


def test_eval_of_a_run_that_cannot_be_written_still_gives_its_figures(run: Path, monkeypatch, capsys) -> None:
    can = os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and can(path, mode))
    assert kept_in(run, None) is None
    assert call("eval", str(run), *FEW) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["episodes"] == 2
    assert "not kept" in told.err
    assert not (run / "eval.json").exists()


def test_eval_of_a_run_that_trains_leaves_it_as_it_is_and_says_so(run: Path, tmp_path: Path, capsys) -> None:
    with RunDirectory(run):
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        assert call("eval", str(run), *FEW) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["episodes"] == 2
        assert f"process {os.getpid()} is using {run}: this evaluation is not kept there" in told.err
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
        assert call("eval", str(run), *FEW, "--out", str(tmp_path / "out")) == 0
    assert kept_in(run, None) == run
    assert (tmp_path / "out" / "eval.json").is_file()


def test_an_evaluation_tells_the_policy_that_flew_though_its_checkpoint_is_gone(
    run: Path, tmp_path: Path
) -> None:
    agent = load_agent(run, which="latest", warn=print)
    shutil.rmtree(run / "checkpoints")
    tmp_path.joinpath("out").mkdir()
    metrics = evaluate_agent(agent, episodes=1, out=tmp_path / "out")
    about = load_flown(tmp_path / "out" / "flights.npz").about
    assert metrics["env_steps"] == about["env_steps"] == 192
    assert about["policy"] == "latest"


def test_plot_flies_a_shipped_policy_and_draws_it(shipped: Path, tmp_path: Path, capsys) -> None:
    assert call("plot", str(shipped), "--out", str(tmp_path)) == 0
    flown = tmp_path / "small"
    pictures = {"flight.png", "flight.svg", "lap.gif"}
    assert names(flown / "plots") - {"lap.mp4"} == pictures
    assert names(shipped) == SHIPPED
    assert title_of(flown) == "hover · s5wm · cpu"
    shutil.rmtree(flown / "plots")
    assert call("plot", str(flown)) == 0  # what eval --out leaves is such a folder
    assert names(flown / "plots") - {"lap.mp4"} == pictures

    (flown / "flights.npz").write_bytes(b"PK\x03\x04 torn")
    capsys.readouterr()
    assert call("plot", str(flown)) == 65
    assert "damaged" in capsys.readouterr().err
    (flown / "flights.npz").unlink()
    assert call("plot", str(flown)) == 1
    assert "nothing was drawn" in capsys.readouterr().err


def test_plot_of_a_run_without_anything_to_draw_is_no_success(run: Path, capsys) -> None:
    assert call("plot", str(run)) == 1
    assert "nothing was drawn" in capsys.readouterr().err


def test_a_policy_flies_in_a_changed_task_and_the_run_keeps_its_own_figures(
    run: Path, tmp_path: Path, capsys
) -> None:
    (run / "eval.json").write_text("{}")
    longer = ("--override", f"task.seconds={(STEPS + 10) * 0.02}")
    assert call("eval", str(run), *FEW, *longer, "--out", str(tmp_path / "longer")) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["steps_mean"] > STEPS or metrics["crash_rate"] > 0
    assert metrics["overrides"] == [longer[1]]
    assert metrics["task"]["seconds"] == (STEPS + 10) * 0.02
    assert metrics["config"]["task"]["seconds"] == STEPS * 0.02
    assert (run / "eval.json").read_text() == "{}" and not (run / "flights.npz").exists()
    assert json.loads((tmp_path / "longer" / "eval.json").read_text()) == metrics
    assert load_flown(tmp_path / "longer" / "flights.npz").about["overrides"] == [longer[1]]
    assert kept_in(run, None, [longer[1]]) is None
    assert call("eval", str(run), *FEW, *longer, "--out", str(run)) == 2


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["agent.actor.units=5"], "not of the task"),
        (["task.type=RacingConfig"], "trained with"),
        (["task.second=1"], "did you mean 'seconds'"),
    ],
)
def test_what_the_policy_cannot_fly_is_refused_before_anything_compiles(
    saved: Path, overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        evaluate_run(saved, episodes=2, overrides=overrides)


def test_a_race_is_changed_under_the_rules_of_a_test() -> None:
    agent = load_agent("pretrained/split-s", which="best", warn=print)
    assert agent.kind == "shipped"
    task = judged_task(agent.experiment, ["task.quad.name=kolibri", "task.track.type=Figure8Config"])
    assert (task.quad.name, type(task.track).__name__) == ("kolibri", "Figure8Config")
    assert (task.p_start_final, task.episode_seconds) == (1.0, 20.0)
    assert judged_task(agent.experiment, ["task.stall_seconds=1"]).stall_seconds == 1.0
    # Both layouts have 24 numbers, which mean different things.
    with pytest.raises(ConfigError, match="trained with 'B'"):
        evaluate_run("pretrained/split-s", episodes=1, overrides=["task.observation=A"])


@pytest.mark.slow
def test_a_shipped_model_foresees_the_state_as_its_run_does(
    run: Path, shipped: Path, tmp_path: Path, capsys
) -> None:
    whole = imagine_run(run, HORIZON, 3)
    common = [
        "imagine",
        str(shipped),
        "--horizon",
        str(HORIZON),
        "--episodes",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    assert call(*common) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 6  # what it is about, head, four state groups
    assert "position (m)" in told.out and "reward" not in told.out
    assert call(*common, "--json") == 0
    part = json.loads(capsys.readouterr().out)
    assert list(part["error"]) == ["position", "velocity", "attitude", "body_rates"]
    for name, band in part["error"].items():
        np.testing.assert_allclose(band["median"], whole["error"][name]["median"], rtol=1e-5)
    assert (part["policy"], whole["policy"]) == ("shipped", "latest")
    assert names(tmp_path / "out" / "plots") == {"imagination.npz", "imagination.png", "imagination.svg"}
    about = load_predictions(tmp_path / "out" / "plots" / "imagination.npz").about
    assert (about["policy"], about["task"], about["agent"]) == ("shipped", "hover", "s5wm")
    assert names(shipped) == SHIPPED


def test_a_shipped_policy_without_its_decoder_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", SMALL)
    write_policy(load_agent(run, which="latest", warn=print), {}, tmp_path / "shipped")
    with pytest.raises(RunDirectoryError, match="without the decoder"):
        imagine_run(tmp_path / "shipped", HORIZON, 1)
