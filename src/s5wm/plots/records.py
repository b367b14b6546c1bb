"""Records of a run directory: metrics, evaluation, configuration.  Tolerates a run in progress."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from s5wm.runs.log import read_rows

Series = tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]
"""Abscissae and values."""


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """The log of one run: one dictionary of numbers per log step."""

    name: str
    rows: tuple[dict[str, float], ...]

    def series(self, x: str, *names: str) -> Series:
        """Finite values of the first of ``names`` that the run has, against ``x``; empty if it has none."""
        found = next((name for name in names if any(name in row for row in self.rows)), None)
        pairs = [(row[x], row[found]) for row in self.rows if found in row and x in row] if found else []
        finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
        xs, ys = np.array(finite, np.float64).reshape(-1, 2).T
        return xs, ys

    @property
    def names(self) -> list[str]:
        """Everything logged, in the order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def read_records(run_dir: Path) -> RunRecords | None:
    """The metrics of a run, None if there are none (yet)."""
    rows = tuple(_numbers(row) for row in read_rows(run_dir / "metrics.jsonl"))
    return RunRecords(name=run_dir.resolve().name, rows=rows) if rows else None


def read_json(file: Path) -> dict[str, Any]:
    """An object of a JSON file; empty if the file is missing, torn or something else."""
    try:
        value: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def title_of(run_dir: Path, about: Mapping[str, Any] | None = None) -> str:
    """Task and agent of a run, or of an evaluation, where its files name them, else the name of its directory.

    Of a folder without such files, ``about`` may hold ``task``, ``agent`` and ``size``.
    """
    config = read_json(run_dir / "config.json")
    experiment = config.get("experiment")
    if not config:
        experiment = read_json(run_dir / "eval.json").get("config")
        name = experiment.get("name") if isinstance(experiment, dict) else None
        config = name if isinstance(name, dict) else dict(about or {})
    words = [config.get("task"), _own_track(experiment), config.get("agent"), config.get("size")]
    known = [word for word in words if isinstance(word, str) and word]
    return " · ".join(known) if known else run_dir.resolve().name


def _own_track(experiment: Any) -> str | None:
    """Name of a track that came from a file."""
    task = experiment.get("task") if isinstance(experiment, dict) else None
    track = task.get("track") if isinstance(task, dict) else None
    if not isinstance(track, dict) or track.get("type") != "FileTrackConfig":
        return None
    return str(track.get("name"))


def facts_of(result: Mapping[str, Any]) -> str:
    """Success and lap time of a whole evaluation, empty where they are unknown."""
    success, lap, episodes = (result.get(k) for k in ("success_rate", "lap_time_mean", "episodes"))
    facts: list[str] = []
    if isinstance(success, int | float):
        of = f" of {episodes} episodes" if isinstance(episodes, int) else ""
        facts.append(f"success {100 * success:.0f} %{of}")
    if isinstance(lap, int | float) and math.isfinite(lap):
        facts.append(f"mean lap {lap:.2f} s")
    return ", ".join(facts)


def policy_of(about: Mapping[str, Any]) -> str:
    """Which policy it was, e.g. ``best policy, 1.25 M steps``; empty where that is unknown."""
    which, env_steps = about.get("policy"), about.get("env_steps")
    if which not in ("best", "latest", "shipped"):
        return ""
    return f"{which} policy" + (f", {steps_text(env_steps)}" if isinstance(env_steps, int) else "")


def steps_text(env_steps: int) -> str:
    """Environment steps as text: ``640 steps``, ``1.25 M steps``."""
    return f"{env_steps / 1e6:.4g} M steps" if env_steps >= 1e5 else f"{env_steps:,} steps"


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """Numbers of a row that can be drawn."""
    return {k: float(v) for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
