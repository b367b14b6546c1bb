"""Last lines of ``s5wm race``: its result, and what to try next."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RELIABLE = 0.9
"""Success from which on a policy races."""

SLOW = 25.0
"""Per cent above the time-optimal lap."""

SHORT = 0.9
"""Share of the preset's budget below which a training was short."""

Outcome = Literal["no gate", "no lap", "some laps", "slow laps", "raced"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A race that has been trained and evaluated."""

    path: Path
    metrics: Mapping[str, Any]  # of its evaluation
    env_steps: int  # trained
    preset_steps: int  # that the preset would train

    @property
    def is_short(self) -> bool:
        """Whether the budget was clearly below the preset's."""
        return self.env_steps < SHORT * self.preset_steps

    @property
    def outcome(self) -> Outcome:
        """The furthest that most flights came."""
        metrics = self.metrics
        if metrics["success_rate"] >= RELIABLE:
            above = metrics.get("above_bound_percent")
            return "slow laps" if above is not None and above > SLOW else "raced"
        if metrics["laps_mean"] > 0:
            return "some laps"
        return "no lap" if metrics["gates_mean"] >= 1 else "no gate"


def advice(race: Trained) -> list[str]:
    """Lines with the result, whether the budget explains it, and commands to try next."""
    lines = [_what_came_out(race)]
    if race.is_short:
        lines.append(
            f"It trained {_millions(race.env_steps)} of the {_millions(race.preset_steps)} steps that the preset takes"
            + (
                ": most of the flying is learned after this."
                if race.outcome in ("no gate", "no lap")
                else "."
            )
        )
    return [*lines, "What next:", *(f"  {command:<52}  {why}" for command, why in _commands(race))]


def _what_came_out(race: Trained) -> str:
    metrics = race.metrics
    match race.outcome:
        case "no gate":
            gates = f"{metrics['gates_mean']:.1f} gates a flight"
            return f"The drone does not race yet: {gates}; most flights end in {_end(race)}."
        case "no lap":
            return f"The drone passes {metrics['gates_mean']:.1f} gates a flight, no lap yet; most end in {_end(race)}."
        case "some laps":
            return (
                f"The drone flies {metrics['laps_mean']:.1f} laps a flight; three in a row, which is success, in "
                f"{metrics['success_rate']:.0%} of {metrics['episodes']} flights. Most end in {_end(race)}."
            )
        case "slow laps":
            return (
                f"Success in {metrics['success_rate']:.0%} of {metrics['episodes']} flights. Laps take "
                f"{metrics['lap_time_mean']:.2f} s, {metrics['above_bound_percent']:.0f} % above the time-optimal "
                f"{metrics['bound_s']:.2f} s: there is time to gain."
            )
        case "raced":
            return f"Success in {metrics['success_rate']:.0%} of {metrics['episodes']} flights, laps of {_lap(race)}."


def _lap(race: Trained) -> str:
    lap, above = race.metrics.get("lap_time_mean"), race.metrics.get("above_bound_percent")
    if lap is None:
        return "no known time"
    return f"{lap:.2f} s" + (f", {above:.0f} % above the time-optimal one" if above is not None else "")


def _end(race: Trained) -> str:
    """The most frequent ending, e.g. ``rim hit``."""
    endings: Mapping[str, int] = race.metrics.get("endings") or {}
    return max(endings, key=lambda name: endings[name]).replace("_", " ") if endings else "a crash"


def _commands(race: Trained) -> list[tuple[str, str]]:
    run, metrics = race.path, race.metrics
    further = (f"s5wm race --run {run}", "go on to the preset's budget")
    if not race.is_short:
        steps = round(1.5 * race.env_steps)
        further = (f"s5wm train race/split-s --run {run} --env-steps {steps}", "go on, half as long again")
    curves = (f"s5wm plot {run}", "whether return and gates still rise: plots/curves.png")
    foresees = (f"s5wm imagine {run}", "how well the model foresees its flights")
    another = ("s5wm train race/split-s --seed 1", "another seed: they differ much")
    if race.outcome in ("no gate", "no lap"):
        return [further, curves] if race.is_short else [curves, another, further]
    if race.outcome == "some laps":
        latest = (f"s5wm eval {run} --policy latest", "the latest policy in place of the best")
        return [further, curves, latest] if race.is_short else [curves, latest, another, further]
    if race.outcome == "slow laps":
        return [
            further,
            foresees,
            (f"s5wm train race/split-s --from {run}", "train anew from its parameters"),
        ]
    quad = (f"s5wm eval {run} --override task.action_delay=0.02", "the same policy with a delay of 20 ms")
    track = ("s5wm train race/figure-8-state", "another track")
    free = ("s5wm train race/split-s --agent ppo", "the model-free baseline")
    again = (f"s5wm eval {run} --episodes {metrics['episodes']} --json", "the metrics again, for machines")
    return [quad, foresees, track, free, again]


def _millions(steps: int) -> str:
    return f"{steps / 1e6:.2f} M"
