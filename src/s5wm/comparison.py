"""Agents beside each other: seeds of one agent together, inter-quartile means with bootstrap intervals.

The statistics are those of Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice"): the mean of the
middle half of the seeds, and the 95 % percentile interval of resampled seeds.  Below five seeds an interval would
promise what it cannot hold: there the range of the seeds is given in its place.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from s5wm.errors import ConfigError, CorruptError
from s5wm.experiment import load_experiment
from s5wm.presets import AGENTS
from s5wm.train.directory import RunDirectory
from s5wm.train.files import read_json
from s5wm.train.log import read_rows

MASTERY = 0.9  # success that counts as learned
LAST = 0.25  # share of a training that "at the end" means
RESAMPLES = 2000
FEW = 5  # seeds below which their range is given instead of an interval
SIGNALS = ("eval/success", "eval/lap_time", "eval/return_nominal", "eval/gates")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Evaluations of one training, ``K`` of them; NaN where a signal has no value, as a lap time without laps."""

    task: str
    agent: str
    seed: int
    env_steps: Float[np.ndarray, " K"]
    minutes: Float[np.ndarray, " K"]
    signals: dict[str, Float[np.ndarray, " K"]]

    @property
    def first_mastery(self) -> int | None:
        """Index of the first evaluation with at least ``MASTERY`` success."""
        good = np.flatnonzero(self.signals["eval/success"] >= MASTERY)
        return int(good[0]) if len(good) else None

    def until(self, env_steps: float) -> "Curve":
        """The part within a budget."""
        kept = self.env_steps <= env_steps
        signals = {name: values[kept] for name, values in self.signals.items()}
        return Curve(
            task=self.task,
            agent=self.agent,
            seed=self.seed,
            env_steps=self.env_steps[kept],
            minutes=self.minutes[kept],
            signals=signals,
        )


@dataclass(frozen=True)
class Estimate:
    """Inter-quartile mean and its 95 % interval, or the range of the seeds where they are few."""

    value: float
    low: float
    high: float


def load_curve(path: Path) -> Curve:
    """From a run directory, or from a file of results that ``benchmarks/learning.py`` wrote."""
    if path.is_file():
        return _recorded(path)
    run = RunDirectory(path)
    experiment = load_experiment(run.config, warn=lambda _: None)
    name = experiment.name
    rows = [row for row in read_rows(run.metrics) if "eval/success" in row]
    return _curve(path, name.task, f"{name.agent} {name.size}", experiment.seed, rows)


def _recorded(path: Path) -> Curve:
    stored = read_json(path)
    try:
        name = stored["name"]
        agent = f"{name['agent']} {name['size']}"
        return _curve(path, name["task"], agent, stored["training_seed"], stored["curve"])
    except (KeyError, TypeError) as error:
        raise CorruptError(f"{path} is not a recorded training: {error!r}") from error


def _curve(path: Path, task: str, agent: str, seed: int, rows: Sequence[dict[str, Any]]) -> Curve:
    if not rows:
        raise ConfigError(f"{path} has no evaluation yet, so there is nothing to compare; train it further")

    def column(name: str) -> Float[np.ndarray, " K"]:
        values = [row.get(name) for row in rows]
        return np.array([np.nan if value is None else value for value in values], float)

    return Curve(
        task=task,
        agent=agent,
        seed=seed,
        env_steps=column("env_steps"),
        minutes=column("minutes"),
        signals={name: column(name) for name in SIGNALS},
    )


def grouped(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """Curves by agent, in the order in which ``AGENTS`` lists them, seeds in order; one task, each seed once."""
    tasks = sorted({curve.task for curve in curves})
    if len(tasks) != 1:
        raise ConfigError(f"runs of {', '.join(tasks)} cannot be compared; give runs of one task")
    groups: dict[str, list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: (_rank(curve.agent), curve.agent, curve.seed)):
        group = groups.setdefault(curve.agent, [])
        if any(other.seed == curve.seed for other in group):
            raise ConfigError(f"two runs of {curve.agent} have seed {curve.seed}; each seed counts once")
        group.append(curve)
    return groups


def _rank(label: str) -> int:
    """So that an agent has the same colour in every picture, whatever its name begins with."""
    listed, name = list(AGENTS), label.split()[0]
    return listed.index(name) if name in listed else len(listed)


def interquartile_mean(values: Float[np.ndarray, "*b K"]) -> Float[np.ndarray, "*b"]:
    """Mean of the middle half along the last axis, the values at its borders counted in part."""
    count = values.shape[-1]
    edges = np.arange(count + 1) / count
    inside = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return np.asarray(np.sort(values, axis=-1) @ (inside / inside.sum()))


def estimate(values: Sequence[float]) -> Estimate:
    """Inter-quartile mean over seeds with its bootstrap interval, or their range below ``FEW`` of them."""
    array = np.asarray(values, float)
    if len(array) < FEW:
        return Estimate(float(interquartile_mean(array)), float(array.min()), float(array.max()))
    drawn = np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.percentile(interquartile_mean(array[drawn]), [2.5, 97.5])
    return Estimate(float(interquartile_mean(array)), float(low), float(high))


def on_grid(curve: Curve, signal: str, grid: Float[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
    """The signal at these environment steps: each point holds the last evaluation before it, NaN before the first."""
    index = np.searchsorted(curve.env_steps, grid, side="right") - 1
    return np.where(index >= 0, curve.signals[signal][np.maximum(index, 0)], np.nan)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the seeds of one agent came to within a common budget."""

    agent: str
    seeds: int
    best_success: Estimate
    end_success: Estimate  # mean over the last quarter of the budget
    lap_time: Estimate | None  # of the most successful evaluation; None where some seed never flew laps
    mastered: int  # seeds that reached 90 %
    steps_to_mastery: Estimate | None  # of those
    minutes_to_mastery: Estimate | None


def summarise(curves: Sequence[Curve], budget: float) -> Summary:
    """Of one agent's seeds."""
    cut = [curve.until(budget) for curve in curves]
    best = [_best(curve) for curve in cut]
    laps = [curve.signals["eval/lap_time"][index] for curve, index in zip(cut, best, strict=True)]
    first = [(curve, curve.first_mastery) for curve in cut]
    mastered = [(curve, index) for curve, index in first if index is not None]
    return Summary(
        agent=curves[0].agent,
        seeds=len(curves),
        best_success=estimate([c.signals["eval/success"][i] for c, i in zip(cut, best, strict=True)]),
        end_success=estimate([_at_end(curve, budget) for curve in cut]),
        lap_time=None if np.any(np.isnan(laps)) else estimate([float(lap) for lap in laps]),
        mastered=len(mastered),
        steps_to_mastery=estimate([c.env_steps[i] for c, i in mastered]) if mastered else None,
        minutes_to_mastery=estimate([c.minutes[i] for c, i in mastered]) if mastered else None,
    )


def _best(curve: Curve) -> int:
    """Most successful, then quickest."""
    success, lap = curve.signals["eval/success"], curve.signals["eval/lap_time"]
    return int(np.lexsort((np.nan_to_num(lap, nan=np.inf), -success))[0])


def _at_end(curve: Curve, budget: float) -> float:
    late = curve.env_steps >= (1.0 - LAST) * budget
    success = curve.signals["eval/success"]
    return float(success[late].mean()) if np.any(late) else float(success[-1])


def common_budget(curves: Sequence[Curve]) -> float:
    """Environment steps that every run has reached."""
    return min(float(curve.env_steps[-1]) for curve in curves)


def markdown(task: str, summaries: Sequence[Summary], budget: float) -> str:
    """One line per agent; brackets are intervals over seeds, or the range of few."""
    head = (
        "agent",
        "seeds",
        "success of the best evaluation",
        "success in the last quarter",
        "lap of the best",
        "seeds at 90 %",
        "environment steps to 90 %, of those",
        "minutes to 90 %, of those",
    )
    rows = [
        (
            f"`{own.agent}`",
            str(own.seeds),
            _shown(own.best_success, "{:.0%}"),
            _shown(own.end_success, "{:.0%}"),
            _shown(own.lap_time, "{:.2f} s"),
            f"{own.mastered} of {own.seeds}",
            _shown(own.steps_to_mastery, "{:.2f} M", 1e-6),
            _shown(own.minutes_to_mastery, "{:.0f}"),
        )
        for own in summaries
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    few = any(own.seeds < FEW for own in summaries)
    brackets = (
        f"range of the seeds where they are fewer than {FEW}, else 95 % interval" if few else "95 % interval"
    )
    return f"`{task}`, the first {budget / 1e6:.2f} M environment steps of each; in brackets: {brackets}\n\n{table}"


def _shown(estimate: Estimate | None, form: str, scale: float = 1.0) -> str:
    if estimate is None:
        return ""
    value, low, high = (form.format(scale * x) for x in (estimate.value, estimate.low, estimate.high))
    return value if low == high else f"{value} [{low}, {high}]"


def compare(paths: Sequence[Path]) -> tuple[list[Curve], list[Summary], float]:
    """Curves, one summary per agent, and the budget that they share."""
    curves = [load_curve(path) for path in paths]
    budget = common_budget(curves)
    for path, curve in zip(paths, curves, strict=True):
        if curve.env_steps[0] > budget:
            raise ConfigError(
                f"{path} was first evaluated after {curve.env_steps[0]:,.0f} environment steps, beyond the "
                f"{budget:,.0f} that all of these runs have reached; train the shorter ones further"
            )
    summaries = [summarise(group, budget) for group in grouped(curves).values()]
    return curves, summaries, budget


def as_json(summaries: Sequence[Summary]) -> Any:
    """Plain data."""
    return [asdict(summary) for summary in summaries]
