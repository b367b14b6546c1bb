"""Comparison of agents: results over seeds within a common budget, or where an agent has not reached it its own."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s5wm.evaluation.estimates import FEW, Estimate, estimate
from s5wm.experiments.curves import Curve, Over, grouped, load_curve
from s5wm.runs.codec import differences

LAST = 0.25  # share of a training that "at the end" means
AXES: dict[Over, str] = {"steps": "environment steps", "minutes": "minutes"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Results over the seeds of one agent within a budget."""

    agent: str
    seeds: int
    budget: float  # environment steps or minutes
    best_success: Estimate | None  # None: the task has no success
    end_success: Estimate | None  # mean over the last quarter of the budget
    end_return: Estimate | None  # likewise
    lap_time: Estimate | None  # of the best evaluation, over the seeds that flew laps there
    mastered: int  # seeds that reached 90 %
    steps_to_mastery: Estimate | None  # of those
    minutes_to_mastery: Estimate | None


def summarise(agent: str, curves: Sequence[Curve], budget: float, over: Over = "steps") -> Summary:
    """Compute the results of one agent's seeds."""
    cut = [curve.until(budget, over) for curve in curves]
    best = [(curve, _best(curve)) for curve in cut]
    first = [(curve, curve.first_mastery) for curve in cut]
    mastered = [(curve, index) for curve, index in first if index is not None]
    return Summary(
        agent=agent,
        seeds=len(curves),
        budget=budget,
        best_success=_known([float(c.signals["eval/success"][i]) for c, i in best], is_rate=True),
        end_success=_known([_at_end(curve, "eval/success", budget, over) for curve in cut], is_rate=True),
        end_return=_known([_at_end(curve, "eval/return_nominal", budget, over) for curve in cut]),
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


def _at_end(curve: Curve, signal: str, budget: float, over: Over) -> float:
    late = curve.along(over) >= (1.0 - LAST) * budget
    values = curve.signals[signal]
    return float(values[late].mean()) if np.any(late) else float(values[-1])


def common_budget(curves: Sequence[Curve], over: Over = "steps") -> float:
    """Environment steps or minutes that the most runs have reached, with an evaluation before.

    Where all of them can, it is what the shortest has reached.
    """
    budgets = sorted({float(curve.along(over)[-1]) for curve in curves}, reverse=True)
    return max(budgets, key=lambda budget: sum(curve.reaches(budget, over) for curve in curves))


def markdown(task: str, summaries: Sequence[Summary], over: Over = "steps") -> str:
    """One line per agent; brackets hold the lowest and highest seed, of many seeds a 95 % interval."""
    has_laps = any(own.lap_time is not None for own in summaries)
    is_common = len({own.budget for own in summaries}) == 1
    head = ["agent", "seeds", *([] if is_common else [AXES[over]])]
    head += ["success of the best evaluation", "success in the last quarter"]
    head += ["lap of the best"] if has_laps else ["return in the last quarter"]
    head += ["seeds at 90 %", "environment steps to 90 %", "minutes to 90 %"]
    rows: list[list[str]] = []
    for own in summaries:
        row = [f"`{own.agent}`", str(own.seeds), *([] if is_common else [_amount(own.budget, over)])]
        row += [_percent(own.best_success), _percent(own.end_success)]
        row += [_of_seeds(own, own.lap_time, "{:.2f} s") if has_laps else _shown(own.end_return, "{:.4g}")]
        row += [f"{own.mastered} of {own.seeds}", _shown(own.steps_to_mastery, "", short_steps)]
        rows.append([*row, _shown(own.minutes_to_mastery, "{:.3g}")])
    lines = [head, ["---" for _ in head], *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return f"`{task}`, {_caption(summaries, over, is_common=is_common)}\n\n{table}"


def _caption(summaries: Sequence[Summary], over: Over, *, is_common: bool) -> str:
    counts = {own.seeds > FEW for own in summaries}
    brackets = {
        frozenset({False}): "the lowest and highest seed",
        frozenset({True}): "95 % interval",
    }.get(frozenset(counts), f"95 % interval of more than {FEW} seeds, of fewer the lowest and highest")
    within = (
        f"the first {_amount(summaries[0].budget, over)} {AXES[over]} of each"
        if is_common
        else f"each within its own budget, for their {AXES[over]} have no part in common"
    )
    return (
        f"{within}; success: mean over the seeds, other metrics: inter-quartile mean of those that have one; in "
        f"brackets: {brackets}"
    )


def _amount(budget: float, over: Over) -> str:
    return short_steps(budget) if over == "steps" else f"{budget:.3g}"


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
    """Curves of all runs by agent, and results of each agent."""

    task: str
    groups: dict[str, list[Curve]]
    summaries: list[Summary]
    budget: float  # that the most runs have reached
    left_out: list[str]  # a sentence for each run that is not in the summaries
    notes: list[str]  # what to know of the others


def compare(paths: Sequence[Path], over: Over = "steps") -> Comparison:
    """The runs at these paths; raises ``ConfigError`` for several tasks, and for a seed that comes twice.

    An agent of which no run has reached the common budget is compared within its own.
    """
    curves = [load_curve(path) for path in paths]
    groups, budget = grouped(curves), common_budget(curves, over)
    summaries: list[Summary] = []
    left_out: list[str] = []
    notes = [
        f"minutes of {name} are those of {own[0].seeds_together} seeds trained together, not of one"
        for name, own in groups.items()
        if own[0].seeds_together > 1
    ]
    for find in (_differing_settings, _early_mastery):
        notes += [note for name, own in groups.items() if (note := find(name, own)) is not None]
    for name, group in groups.items():
        is_common = any(curve.reaches(budget, over) for curve in group)
        own = budget if is_common else common_budget(group, over)
        compared = [curve for curve in group if curve.reaches(own, over)]
        summaries.append(summarise(name, compared, own, over))
        left_out += [_why_not(curve, own, over) for curve in group if not curve.reaches(own, over)]
    return Comparison(
        task=curves[0].task, groups=groups, summaries=summaries, budget=budget, left_out=left_out, notes=notes
    )


def _differing_settings(name: str, group: Sequence[Curve]) -> str | None:
    """What differs in the configurations of recorded trainings, which are grouped by the name of their settings."""
    known = [curve for curve in group if curve.config is not None]
    lines = [line for curve in known[1:] for line in differences(known[0].config, curve.config)]
    if not lines:
        return None
    return f"the seeds of {name} differ in more than the seed: {'; '.join(dict.fromkeys(lines))}"


def _early_mastery(name: str, group: Sequence[Curve]) -> str | None:
    """Seeds of which nobody knows when they came to 90 %: they were there when first evaluated."""
    at_once = sum(curve.first_mastery == 0 for curve in group)
    if not at_once:
        return None
    return (
        f"{at_once} of {len(group)} seeds of {name} were at 90 % in their first evaluation: their environment steps "
        "and minutes to 90 % are no more than those of the table"
    )


def _why_not(curve: Curve, budget: float, over: Over) -> str:
    """Why a run cannot be compared at a budget that it does not reach."""
    first, last, most = (
        f"{x:,.4g}" if over == "minutes" else f"{x:,.0f}" for x in (*curve.along(over)[[0, -1]], budget)
    )
    if curve.along(over)[0] > budget:
        why = f"it was first evaluated after {first} {AXES[over]}, beyond the {most} that are compared"
    else:
        why = f"it was evaluated up to {last} {AXES[over]}, fewer than the {most} that are compared"
    return f"{curve.run} is in the picture, but not in the table: {why}"


def as_json(summaries: Sequence[Summary]) -> Any:
    """As JSON values."""
    return [asdict(summary) for summary in summaries]
