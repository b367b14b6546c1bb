"""Comparison of agents: results over seeds within a common budget."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from s5wm.errors import ConfigError, CorruptError
from s5wm.evaluation.estimates import FEW, Estimate, estimate
from s5wm.experiments.experiment import load_experiment
from s5wm.experiments.presets import AGENTS
from s5wm.experiments.trained import is_run
from s5wm.runs.directory import CONFIG, RunDirectory
from s5wm.runs.files import read_json
from s5wm.runs.log import read_rows

MASTERY = 0.9  # success that counts as learned
LAST = 0.25  # share of a training that "at the end" means
SIGNALS = ("eval/success", "eval/lap_time", "eval/return_nominal", "eval/gates")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """``K`` evaluations of one training; NaN where a metric has no value, as a lap time without laps.

    ``bound`` is the time-optimal lap in s, None for a task without laps.
    """

    task: str
    agent: str
    seed: int
    env_steps: Float[np.ndarray, " K"]
    minutes: Float[np.ndarray, " K"]
    signals: dict[str, Float[np.ndarray, " K"]]
    bound: float | None = None

    def has(self, signal: str) -> bool:
        """Whether any evaluation has a value of it."""
        return bool(np.any(np.isfinite(self.signals[signal])))

    @property
    def first_mastery(self) -> int | None:
        """Index of the first evaluation with at least ``MASTERY`` success."""
        good = np.flatnonzero(self.signals["eval/success"] >= MASTERY)
        return int(good[0]) if len(good) else None

    def until(self, env_steps: float) -> "Curve":
        """The part within a budget."""
        kept = self.env_steps <= env_steps
        signals = {name: values[kept] for name, values in self.signals.items()}
        return replace(self, env_steps=self.env_steps[kept], minutes=self.minutes[kept], signals=signals)


def runs_of(path: Path) -> list[Path]:
    """The path itself, or the runs in a folder of ``train --seeds``."""
    if path.is_dir() and not (path / CONFIG).is_file():
        found = sorted(each.parent for each in path.glob(f"*/{CONFIG}"))
        return sorted(found, key=lambda run: (len(run.name), run.name)) or [path]
    return [path]


def load_curve(path: Path) -> Curve:
    """From a run directory, or from a file of results that ``benchmarks/learning.py`` wrote."""
    if path.is_file():
        return _recorded(path)
    if not is_run(path):
        raise ConfigError(
            f"{path} is a single policy, without the evaluations of its training that are compared here; name the run "
            "that it came from or its file in results/learning, or judge the policy itself with s5wm eval"
        )
    run = RunDirectory(path)
    experiment = load_experiment(run.config, warn=lambda _: None)
    name, task = experiment.name, experiment.task
    rows = [row for row in read_rows(run.metrics) if "eval/return_nominal" in row]
    bound = task.bounds.get("eval/lap_time")
    return replace(_curve(path, name.task, f"{name.agent} {name.size}", experiment.seed, rows), bound=bound)


def _recorded(path: Path) -> Curve:
    stored = read_json(path)
    try:
        name = stored["name"]
        agent = f"{name['agent']} {name['size']}"
        curve = _curve(path, name["task"], agent, stored["training_seed"], stored["curve"])
        return replace(curve, bound=stored.get("evaluation", {}).get("bound_s"))
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
    """Rank of an agent, which fixes its colour in every picture."""
    listed, name = list(AGENTS), label.split()[0]
    return listed.index(name) if name in listed else len(listed)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Results over the seeds of one agent within a common budget."""

    agent: str
    seeds: int
    best_success: Estimate | None  # None: the task has no success
    end_success: Estimate | None  # mean over the last quarter of the budget
    end_return: Estimate | None  # likewise
    lap_time: (
        Estimate | None
    )  # of the best evaluation, over the seeds that flew laps there; None: no seed did
    mastered: int  # seeds that reached 90 %
    steps_to_mastery: Estimate | None  # of those
    minutes_to_mastery: Estimate | None


def summarise(curves: Sequence[Curve], budget: float) -> Summary:
    """Compute the results of one agent's seeds."""
    cut = [curve.until(budget) for curve in curves]
    best = [(curve, _best(curve)) for curve in cut]
    first = [(curve, curve.first_mastery) for curve in cut]
    mastered = [(curve, index) for curve, index in first if index is not None]
    return Summary(
        agent=curves[0].agent,
        seeds=len(curves),
        best_success=_known([float(c.signals["eval/success"][i]) for c, i in best], is_rate=True),
        end_success=_known([_at_end(curve, "eval/success", budget) for curve in cut], is_rate=True),
        end_return=_known([_at_end(curve, "eval/return_nominal", budget) for curve in cut]),
        lap_time=_known([float(c.signals["eval/lap_time"][i]) for c, i in best]),
        mastered=len(mastered),
        steps_to_mastery=_known([float(c.env_steps[i]) for c, i in mastered]),
        minutes_to_mastery=_known([float(c.minutes[i]) for c, i in mastered]),
    )


def _known(values: Sequence[float], *, is_rate: bool = False) -> Estimate | None:
    """Over the seeds that have a value."""
    known = [value for value in values if not np.isnan(value)]
    return estimate(known, is_rate=is_rate) if known else None


def _best(curve: Curve) -> int:
    """Index of the best evaluation: highest success, then quickest lap; highest return in a task without success."""
    success, lap = curve.signals["eval/success"], curve.signals["eval/lap_time"]
    if not curve.has("eval/success"):
        return int(np.argmax(np.nan_to_num(curve.signals["eval/return_nominal"], nan=-np.inf)))
    return int(np.lexsort((np.nan_to_num(lap, nan=np.inf), -success))[0])


def _at_end(curve: Curve, signal: str, budget: float) -> float:
    late = curve.env_steps >= (1.0 - LAST) * budget
    values = curve.signals[signal]
    return float(values[late].mean()) if np.any(late) else float(values[-1])


def common_budget(curves: Sequence[Curve]) -> float:
    """Environment steps that the most runs have reached, with an evaluation before.

    Where all of them can, it is what the shortest has reached.
    """
    budgets = sorted({float(curve.env_steps[-1]) for curve in curves}, reverse=True)
    return max(budgets, key=lambda budget: sum(_reaches(curve, budget) for curve in curves))


def _reaches(curve: Curve, budget: float) -> bool:
    return bool(curve.env_steps[0] <= budget <= curve.env_steps[-1])


def markdown(task: str, summaries: Sequence[Summary], budget: float) -> str:
    """One line per agent; brackets are intervals over seeds, or the range of few."""
    has_laps = any(own.lap_time is not None for own in summaries)
    head = ["agent", "seeds", "success of the best evaluation", "success in the last quarter"]
    head += ["lap of the best"] if has_laps else ["return in the last quarter"]
    head += ["seeds at 90 %", "environment steps to 90 %", "minutes to 90 %"]
    rows: list[list[str]] = []
    for own in summaries:
        row = [f"`{own.agent}`", str(own.seeds), _percent(own.best_success), _percent(own.end_success)]
        row += [_of_seeds(own, own.lap_time, "{:.2f} s") if has_laps else _shown(own.end_return, "{:.4g}")]
        row += [f"{own.mastered} of {own.seeds}", _shown(own.steps_to_mastery, "", short_steps)]
        rows.append([*row, _shown(own.minutes_to_mastery, "{:.3g}")])
    lines = [head, ["---" for _ in head], *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    few = any(own.seeds < FEW for own in summaries)
    brackets = (
        f"range of the seeds where they are fewer than {FEW}, else 95 % interval" if few else "95 % interval"
    )
    return (
        f"`{task}`, the first {short_steps(budget)} environment steps of each; success: mean over the seeds, other "
        f"metrics: inter-quartile mean of those that have one; in brackets: {brackets}\n\n{table}"
    )


def short_steps(steps: float) -> str:
    """Environment steps in three digits."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if steps >= unit:
            return f"{steps / unit:.3g}{name}"
    return f"{steps:.0f}"


def _percent(estimate: Estimate | None) -> str:
    return _shown(estimate, "{:.0%}")


def _of_seeds(own: Summary, estimate: Estimate | None, form: str) -> str:
    """With the number of seeds where some lack the metric."""
    text = _shown(estimate, form)
    return (
        text
        if estimate is None or estimate.seeds == own.seeds
        else f"{text}, {estimate.seeds} of {own.seeds} seeds"
    )


def _shown(estimate: Estimate | None, form: str, text: Callable[[float], str] | None = None) -> str:
    if estimate is None:
        return "none"
    shown = text or form.format
    value, low, high = (shown(x) for x in (estimate.value, estimate.low, estimate.high))
    return value if low == high else f"{value} [{low}, {high}]"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Curves of all runs, and results of those with a common budget."""

    curves: list[Curve]
    summaries: list[Summary]
    budget: float  # environment steps
    left_out: list[str]  # a sentence for each run that is not in the summaries


def compare(paths: Sequence[Path]) -> Comparison:
    """The runs at these paths; raises ``ConfigError`` for several tasks, and for a seed that comes twice."""
    curves = [load_curve(path) for path in paths]
    grouped(curves)
    budget = common_budget(curves)
    left_out = [_why_not(path, curve, budget) for path, curve in zip(paths, curves, strict=True)]
    compared = [curve for curve in curves if _reaches(curve, budget)]
    summaries = [summarise(group, budget) for group in grouped(compared).values()]
    return Comparison(
        curves=curves, summaries=summaries, budget=budget, left_out=[why for why in left_out if why]
    )


def _why_not(path: Path, curve: Curve, budget: float) -> str | None:
    """Why a run cannot be compared at this budget; None if it can."""
    first, last = (f"{steps:,.0f}" for steps in (curve.env_steps[0], curve.env_steps[-1]))
    if curve.env_steps[0] > budget:
        why = f"it was first evaluated after {first} environment steps, beyond the {budget:,.0f} that are compared"
    elif curve.env_steps[-1] < budget:
        why = (
            f"it was evaluated up to {last} environment steps, fewer than the {budget:,.0f} that are compared"
        )
    else:
        return None
    return f"{path} is in the picture, but not in the table: {why}"


def as_json(summaries: Sequence[Summary]) -> Any:
    """As JSON values."""
    return [asdict(summary) for summary in summaries]
