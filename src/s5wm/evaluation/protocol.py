"""The evaluation protocol: episodes to run and metrics to report.

Episodes begin and end as the task's evaluation form says, and are acted with the policy's mode.  What they came to,
beyond returns and lengths, comes from the task itself (``s5wm.envs.task``).
"""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.base import AbstractEnv
from s5wm.envs.host import HostEnv
from s5wm.envs.task import AbstractDroneTask, AbstractTask, Episodes, ReportedMetric, Summary
from s5wm.evaluation.hosted import run_hosted_episodes
from s5wm.evaluation.result import EvalResult, finite_score
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.runs.flights import Flight, TrackGeometry, save_flights
from s5wm.types import Key

RECORDED = 4

Run = Callable[[AbstractPolicy[Any, Any], EvalConfig, Key], Episodes]
"""Runs the episodes of a plan."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Runs policies in the evaluation form of a task."""

    task: AbstractTask
    env: AbstractEnv[Any]
    plan: EvalConfig
    run: Run
    draws: bool = False  # whether episodes with sampled actions are run too, which takes as long again

    def __call__(self, policy: AbstractPolicy[Any, Any], key: Key) -> EvalResult:
        """One evaluation."""
        episodes = self.run(policy, self.plan, key)
        summary = self._summary(episodes) | (self._sampled(policy, key) if self.draws else {})
        flights: list[Flight] = []
        track: TrackGeometry | None = None
        if isinstance(self.task, AbstractDroneTask):
            flights, track = self.task.flights(self.env, episodes), self.task.track_geometry(self.env)
        judged = judge(self.task, summary, ft.partial(save_flights, flights=flights, track=track))
        left_out = self.plan.episodes - summary["episodes"]
        if not left_out:
            return judged
        why = f"{left_out} of {self.plan.episodes} episodes are left out: {'; '.join(episodes.notices)}"
        return replace(judged, headline=f"{judged.headline} ({why})")

    def _summary(self, episodes: Episodes) -> Summary:
        return self.task.summary(self.env, episodes) | _common(episodes)

    def _sampled(self, policy: AbstractPolicy[Any, Any], key: Key) -> Summary:
        """Evaluate with sampled actions, as in training, from the same first states.

        Episodes with mean actions from nearly the same start are nearly the same; this shows how much noise the
        policy tolerates.
        """
        plan = replace(self.plan, recorded=0, sampled=True)
        summary = self._summary(self.run(policy, plan, key))
        names = ("success_rate", "return_nominal", *(f.name for f in self.task.reported_metrics if f.sampled))
        return {f"sampled_{name}": summary[name] for name in names if name in summary}


def evaluator(task: AbstractTask, episodes: int) -> Evaluator:
    """The evaluator of a task, in its evaluation form."""
    return evaluator_as_given(task.eval_config(), episodes)


def evaluator_as_given(judged: AbstractTask, episodes: int) -> Evaluator:
    """The evaluator of a task as it is."""
    judged = judged.underlying
    env = judged.build()
    plan = EvalConfig(
        episodes=episodes,
        max_steps=judged.max_steps,
        recorded=min(RECORDED, episodes) if isinstance(judged, AbstractDroneTask) else 0,
        snapshot=judged.snapshot() if isinstance(judged, AbstractDroneTask) else _nothing,
    )
    if isinstance(env, HostEnv):
        return Evaluator(task=judged, env=env, plan=plan, run=ft.partial(run_hosted_episodes, env))
    return Evaluator(task=judged, env=env, plan=plan, run=ft.partial(_compiled, env), draws=True)


def _compiled(
    env: AbstractEnv[Any], policy: AbstractPolicy[Any, Any], plan: EvalConfig, key: Key
) -> Episodes:
    return jax.device_get(run_episodes(env, policy, plan, key))


def _nothing(state: Any) -> dict[str, Any]:
    del state
    return {}


def judge(task: AbstractTask, summary: Summary, save: Callable[..., None]) -> EvalResult:
    """Score and texts of a summary."""
    logged = {
        "success": "success_rate",
        "return_nominal": "return_nominal",
        "length": "steps_mean",
        "sampled_success": "sampled_success_rate",
    } | {metric.log: metric.name for metric in task.reported_metrics if metric.log is not None}
    row = {
        f"eval/{short}": float(summary[name])
        for short, name in logged.items()
        if summary.get(name) is not None
    }
    return EvalResult(
        success=summary.get("success_rate"),
        score=tuple(map(finite_score, task.score(summary))),
        row=row,
        metrics=summary,
        headline=headline(summary, task.reported_metrics),
        save_flights=save,
    )


def headline(summary: Mapping[str, Any], metrics: Sequence[ReportedMetric]) -> str:
    """A summary in one line, with the task's own ``metrics``."""
    forms = [
        ("success_rate", "success {:.0%}"),
        *((metric.name, metric.form) for metric in metrics if metric.form is not None),
        ("sampled_success_rate", "{:.0%} with sampled actions"),
        ("return_nominal", "return {:.2f}"),
    ]
    return ", ".join(form.format(summary[name]) for name, form in forms if summary.get(name) is not None)


def _common(episodes: Episodes) -> Summary:
    smoothing = episodes.return_smoothing
    return {
        "episodes": int(episodes.steps.shape[0]),
        "return_nominal": float(np.mean(episodes.return_nominal)),
        "return_std": float(np.std(episodes.return_nominal)),
        **({} if smoothing is None else {"return_smoothing": float(np.mean(smoothing))}),
        "terminated_rate": float(np.mean(episodes.is_terminal)),
        "steps_mean": float(np.mean(episodes.steps)),
    }
