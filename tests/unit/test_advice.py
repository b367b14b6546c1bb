"""What a race says at its end, by how it went; and that a longer budget is one command away."""

from dataclasses import replace
from pathlib import Path

import pytest

from s5wm.cli.advice import Trained, advice
from s5wm.cli.race import race_experiment
from s5wm.experiments.experiment import save_experiment
from s5wm.experiments.presets import preset

NOTHING = {
    "episodes": 100,
    "success_rate": 0.0,
    "laps_mean": 0.0,
    "gates_mean": 0.25,
    "endings": {"rim_hit": 99},
}
GATES = NOTHING | {"gates_mean": 3.5, "endings": {"ground": 60, "stalled": 40}}
LAPS = GATES | {"laps_mean": 1.5, "success_rate": 0.4, "lap_time_mean": 7.0}
SLOW = LAPS | {"success_rate": 1.0, "lap_time_mean": 7.0, "above_bound_percent": 46.8, "bound_s": 4.77}
RACED = SLOW | {"lap_time_mean": 5.5, "above_bound_percent": 15.0}


def said(metrics: dict, env_steps: int = 12_000_000) -> str:
    return "\n".join(
        advice(Trained(path=Path("runs/x"), metrics=metrics, env_steps=env_steps, preset_steps=12_000_000))
    )


@pytest.mark.parametrize(
    ("metrics", "outcome", "first"),
    [
        (NOTHING, "does not race yet: 0.2 gates a flight; most flights end in rim hit", "s5wm plot runs/x"),
        (GATES, "passes 3.5 gates a flight, no lap yet; most end in ground", "s5wm plot runs/x"),
        (LAPS, "1.5 laps a flight; three in a row, which is success, in 40% of 100", "s5wm plot runs/x"),
        (
            SLOW,
            "47 % above the time-optimal 4.77 s",
            "s5wm train race/split-s --run runs/x --env-steps 18000000",
        ),
        (RACED, "Success in 100% of 100 flights, laps of 5.50 s, 15 % above", "s5wm eval runs/x --override"),
    ],
)
def test_advice_depends_on_what_came_out(metrics: dict, outcome: str, first: str) -> None:
    text = said(metrics)
    assert outcome in text
    assert text.split("What next:\n")[1].strip().startswith(first)
    assert "of the 12.00 M steps" not in text


@pytest.mark.parametrize("metrics", [NOTHING, GATES, LAPS, SLOW])
def test_a_short_budget_is_named_as_the_reason(metrics: dict) -> None:
    text = said(metrics, env_steps=1_000_000)
    assert "It trained 1.00 M of the 12.00 M steps that the preset takes" in text
    assert text.split("What next:\n")[1].strip().startswith("s5wm race --run runs/x  ")


def test_every_outcome_has_other_advice() -> None:
    assert len({said(metrics) for metrics in (NOTHING, GATES, LAPS, SLOW, RACED)}) == 5


def test_a_race_goes_on_to_the_budget_asked_for(tmp_path: Path) -> None:
    short = race_experiment(tmp_path / "run", 5.0)
    assert short.train.minutes == 5.0
    (tmp_path / "run").mkdir()
    save_experiment(tmp_path / "run" / "config.json", short)
    whole = race_experiment(tmp_path / "run", None)
    assert (whole.train.env_steps, whole.train.minutes) == (preset("race/split-s").train.env_steps, None)
    assert race_experiment(tmp_path / "run", 9.0).train.minutes == 9.0
    longer = replace(whole, seed=3, train=replace(whole.train, env_steps=20_000_000))
    save_experiment(tmp_path / "run" / "config.json", longer)
    assert race_experiment(tmp_path / "run", None) == longer
