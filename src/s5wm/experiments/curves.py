"""Learning curves of trainings, read from run directories or recorded files and grouped by agent and settings."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from s5wm.errors import ConfigError, CorruptError
from s5wm.experiments.experiment import Experiment, load_experiment
from s5wm.experiments.presets import AGENTS
from s5wm.experiments.trained import is_run
from s5wm.runs.codec import encode
from s5wm.runs.directory import CONFIG, RunDirectory, lives, shortest_ends
from s5wm.runs.files import read_json
from s5wm.runs.log import read_rows
from s5wm.training.config import TrainConfig

Over = Literal["steps", "minutes"]

MASTERY = 0.9  # success that counts as learned
SIGNALS = ("eval/success", "eval/lap_time", "eval/return_nominal", "eval/gates")
RETURN = "eval/return_nominal"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """``K`` evaluations of one training; NaN where a metric has no value, as a lap time without laps.

    ``bound`` is the time-optimal lap in s, None for a task without laps.  ``settings`` are equal where nothing differs
    but seed and budget; None where they are unknown.  ``training`` holds the same signals of training episodes.
    """

    task: str
    agent: str
    seed: int
    env_steps: Float[np.ndarray, " K"]
    minutes: Float[np.ndarray, " K"]
    signals: dict[str, Float[np.ndarray, " K"]]
    bound: float | None = None
    run: Path = Path()  # directory or file
    settings: str | None = None
    training: "Curve | None" = None
    seeds_together: int = 1  # trained in one program: the minutes are of all of them
    config: dict[str, Any] | None = None  # of a recorded training, without seed and budget

    def has(self, signal: str) -> bool:
        """Whether any evaluation has a value of it."""
        return bool(np.any(np.isfinite(self.signals[signal])))

    def along(self, over: Over) -> Float[np.ndarray, " K"]:
        """Environment steps or minutes of the evaluations."""
        return self.env_steps if over == "steps" else self.minutes

    @property
    def first_mastery(self) -> int | None:
        """Index of the first evaluation with at least ``MASTERY`` success."""
        good = np.flatnonzero(self.signals["eval/success"] >= MASTERY)
        return int(good[0]) if len(good) else None

    def until(self, budget: float, over: Over = "steps") -> "Curve":
        """The part within a budget."""
        kept = self.along(over) <= budget
        signals = {name: values[kept] for name, values in self.signals.items()}
        return replace(self, env_steps=self.env_steps[kept], minutes=self.minutes[kept], signals=signals)

    def reaches(self, budget: float, over: Over) -> bool:
        """Whether it was evaluated within the budget and trained to its end."""
        x = self.along(over)
        return bool(x[0] <= budget <= x[-1])


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
    curve = _curve(path, name.task, f"{name.agent} {name.size}", experiment.seed, read_rows(run.metrics))
    start, together = read_json(run.config).get("from"), _seeds_together(path)
    return replace(
        curve,
        bound=task.bounds.get("eval/lap_time"),
        settings=json.dumps([_settings(experiment), start, together]),
        seeds_together=together,
    )


def _seeds_together(path: Path) -> int:
    """Trained in one program, whose minutes are logged for each."""
    return max((int(life.get("seeds_together", 1)) for life in lives(path)), default=1)


def _settings(experiment: Experiment) -> Any:
    """The experiment without its seed, its budget and what does not change the training."""
    usual = TrainConfig()
    train = replace(
        experiment.train,
        env_steps=usual.env_steps,
        minutes=usual.minutes,
        checkpoint_every=usual.checkpoint_every,
        keep=usual.keep,
        time_pieces=usual.time_pieces,
    )
    return encode(replace(experiment, train=train, seed=0))


def _without_budget(config: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration without its seed and its budget."""
    train = {name: value for name, value in config["train"].items() if name not in ("env_steps", "minutes")}
    return {name: value for name, value in config.items() if name != "seed"} | {"train": train}


def _recorded(path: Path) -> Curve:
    stored = read_json(path)
    try:
        name = stored["name"]
        rows = [{RETURN: None, **row} for row in stored["curve"]]
        agent = f"{name['agent']} {name['size']}"
        if stored.get("settings"):  # that are not the preset's
            agent += f", {stored['settings']}"
        curve = _curve(path, name["task"], agent, _seed(stored), rows)
        _check_axes(curve)
        lived = stored.get("lives") or [stored.get("training", {})]
        together = max(int(life.get("seeds_together", 1)) for life in lived)
        bound = stored.get("evaluation", {}).get("bound_s")
        config = _without_budget(stored["config"]) if "config" in stored else None
        return replace(curve, bound=bound, seeds_together=together, config=config)
    except ConfigError:  # a ``ValueError`` that says why already
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptError(f"{path} is not a recorded training: {error!r}") from error


def _seed(stored: dict[str, Any]) -> int:
    seed = stored["training_seed"]
    if not isinstance(seed, int):
        raise ValueError(f"training_seed is {seed!r}")
    return seed


def _check_axes(curve: Curve) -> None:
    """Raises ``ValueError`` where an evaluation has no place on an axis."""
    for name in ("env_steps", "minutes"):
        if not np.isfinite(getattr(curve, name)).all():
            raise ValueError(f"an evaluation lacks {name}")


def _curve(path: Path, task: str, agent: str, seed: int, rows: Sequence[dict[str, Any]]) -> Curve:
    """The evaluations among the rows, and training episodes of all."""
    evaluated = [row for row in rows if RETURN in row]
    if not evaluated:
        raise ConfigError(f"{path} has no evaluation yet, so there is nothing to compare; train it further")
    training = {name: _column(rows, name.replace("eval/", "episode/")) for name in SIGNALS}
    own = Curve(
        task=task,
        agent=agent,
        seed=seed,
        env_steps=_column(rows, "env_steps"),
        minutes=_column(rows, "minutes"),
        signals=training,
        run=path,
    )
    return replace(
        own,
        env_steps=_column(evaluated, "env_steps"),
        minutes=_column(evaluated, "minutes"),
        signals={name: _column(evaluated, name) for name in SIGNALS},
        training=own,
    )


def _column(rows: Sequence[dict[str, Any]], name: str) -> Float[np.ndarray, " K"]:
    values = [row.get(name) for row in rows]
    return np.array([np.nan if value is None else value for value in values], float)


def grouped(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """Curves by agent, in the order in which ``AGENTS`` lists them, seeds in order; one task, each seed once.

    An agent that was trained with several settings has a group for each, with the name of its first run.
    """
    tasks = sorted({curve.task for curve in curves})
    if len(tasks) != 1:
        raise ConfigError(f"runs of {', '.join(tasks)} cannot be compared; give runs of one task")
    agents: dict[str, dict[str | None, list[Curve]]] = {}
    for curve in sorted(curves, key=lambda curve: (_rank(curve.agent), curve.agent, curve.seed)):
        group = agents.setdefault(curve.agent, {}).setdefault(curve.settings, [])
        if same := [other for other in group if other.seed == curve.seed]:
            raise ConfigError(
                f"{same[0].run} and {curve.run} are two runs of {curve.agent} with the same settings and seed "
                f"{curve.seed}; each seed counts once, so leave one out"
            )
        group.append(curve)
    return {name: group for agent, groups in agents.items() for name, group in _named(agent, groups.values())}


def _named(agent: str, groups: Collection[list[Curve]]) -> list[tuple[str, list[Curve]]]:
    """The groups of one agent; of several, each has the end of its first run's path that no other has."""
    if len(groups) == 1:
        return [(agent, group) for group in groups]
    ends = shortest_ends([group[0].run for group in groups])
    return [(f"{agent}, {end}", group) for end, group in zip(ends, groups, strict=True)]


def _rank(label: str) -> int:
    """Rank of an agent, which fixes its colour in every picture."""
    listed, name = list(AGENTS), next(iter(label.split()), "")
    return listed.index(name) if name in listed else len(listed)
