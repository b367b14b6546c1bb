"""Result of an evaluation, and the best policy."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s5wm.errors import CorruptError
from s5wm.runs.files import (
    read_json,
    replaced_folder,
    verify_manifest,
    whole_folder,
    write_json,
)
from s5wm.runs.log import Row
from s5wm.runs.policyfile import save_policy


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """One evaluation of a policy."""

    success: float | None  # share of episodes, where the task has such
    score: tuple[float, ...]  # larger is better, compared from the left
    row: Row  # for the log, keys ``eval/...``
    metrics: dict[str, Any]  # for eval.json
    headline: str  # one line for a person
    save_flights: Callable[
        ..., None
    ]  # (path, about=...): writes the recorded episodes, see ``s5wm.runs.flights``

    def record(self, path: Path, *, policy: str, env_steps: int | None, **more: Any) -> None:
        """Write the recorded episodes with the policy's origin and the result of the whole evaluation."""
        facts = {name: self.metrics.get(name) for name in ("episodes", "success_rate", "lap_time_mean")}
        self.save_flights(path, about={"policy": policy, "env_steps": env_steps, **facts, **more})


def finite_score(value: float | None) -> float:
    """A part of a score that JSON holds and that compares; one that is not a number is the worst."""
    if value is None or math.isnan(value):
        return -sys.float_info.max
    return min(max(value, -sys.float_info.max), sys.float_info.max)


def kept_score(folder: Path, *, unrecorded: tuple[float, ...] | None = None) -> tuple[float, ...] | None:
    """Score of the best policy; None where there is none, or it is damaged.

    ``unrecorded`` where the policy is whole and of a version that recorded no score with it.
    """
    folder = whole_folder(folder)
    try:
        verify_manifest(folder)
        score = read_json(folder / "eval.json").get("score")
    except CorruptError:
        return None
    return unrecorded if score is None else tuple(map(finite_score, score))


def keep_best(folder: Path, policy: Any, judged: EvalResult, env_steps: int) -> None:
    """Replace the best policy by this one."""
    with replaced_folder(folder) as new:
        save_policy(new / "policy.npz", policy)
        write_json(new / "eval.json", judged.metrics | {"env_steps": env_steps, "score": list(judged.score)})
