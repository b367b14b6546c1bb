"""Perturbation suites: what is refused, what is told, and that a wrong world shows."""

import json

import pytest

from s5wm.cli import main
from s5wm.envs.racing.perturb import SUITES
from s5wm.errors import ConfigError
from s5wm.experiments.perturb import STRENGTHS, perturb_run


def test_what_cannot_be_perturbed_is_refused():
    with pytest.raises(ConfigError, match=r"--perturb 'gales' is no suite; did you mean"):
        perturb_run("pretrained/split-s", "gales", episodes=1, seed=0, which="best", log=lambda _: None)
    with pytest.raises(ConfigError, match="has nothing that --perturb changes"):
        perturb_run("pretrained/figure-8", "wind", episodes=1, seed=0, which="best", log=lambda _: None)
    with pytest.raises(ConfigError, match="--episodes is 0"):
        perturb_run("pretrained/split-s", "wind", episodes=0, seed=0, which="best", log=lambda _: None)
    assert SUITES["delay"].scaled(0.5).delay_max == 1.0


@pytest.mark.slow
def test_a_delay_of_three_periods_ends_what_flew_well(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(
            [
                "eval",
                "pretrained/split-s",
                "--perturb",
                "delay",
                "--episodes",
                "4",
                "--out",
                str(tmp_path),
                "--json",
            ]
        )
    assert end.value.code == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((tmp_path / "perturb.json").read_text())
    assert metrics["nominal"]["success_rate"] == 1.0
    assert len(metrics["suites"]["delay"]) == len(STRENGTHS)
    assert metrics["suites"]["delay"][-1]["success_rate"] < 1.0
    assert (tmp_path / "plots" / "robustness.png").is_file()
