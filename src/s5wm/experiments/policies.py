"""Trained policies: their evaluation, under the rules of their task or changed ones, and shipping them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from s5wm.envs.adapters.tasks import HostedTask
from s5wm.envs.base import AbstractDroneEnv
from s5wm.envs.task import AbstractTask
from s5wm.errors import ConfigError
from s5wm.evaluation.filming import Shot, film, film_compiled
from s5wm.evaluation.protocol import evaluator_as_given
from s5wm.evaluation.result import EvalResult, keep_best
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.experiments.run import to_stderr
from s5wm.experiments.trained import TrainedAgent, Which, find, is_run, load_agent
from s5wm.runs.codec import Warn, encode, override
from s5wm.runs.directory import CONFIG, RunDirectory, room_for_results
from s5wm.runs.elapsed import elapsed
from s5wm.runs.files import MANIFEST, replaced_folder, write_json
from s5wm.runs.policyfile import save_policy
from s5wm.runs.provenance import provenance

FINAL_EPISODES = 100
FINAL_SEED = 12345
CHOICE_SEED = 54321
"""Of the episodes that choose between two policies of a training; those that are reported are others."""


def evaluate_run(
    run: str | Path,
    *,
    episodes: int = FINAL_EPISODES,
    seed: int = FINAL_SEED,
    which: Which = "best",
    out: Path | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Fly the evaluation protocol and return its metrics; ``eval.json`` and ``flights.npz`` go to ``kept_in``.

    ``overrides`` (``"task.path.to.field=value"``) change the task as it is judged, and are reported with the metrics.
    Raises ``ConfigError`` before anything compiles where the policy does not fit the changed task.
    """
    _check_plan(episodes, seed)
    folder = find(run)
    out = kept_in(run, out, overrides, warn=to_stderr)
    if out is not None:
        _room_for_evaluation(out, folder, overrides)
    agent = load_agent(folder, which=which, warn=to_stderr)
    return evaluate_agent(agent, episodes=episodes, seed=seed, out=out, overrides=overrides)


def evaluate_agent(
    agent: TrainedAgent,
    *,
    episodes: int = FINAL_EPISODES,
    seed: int = FINAL_SEED,
    out: Path | None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """``evaluate_run`` for a policy that is loaded; files go to ``out``, which exists."""
    _check_plan(episodes, seed)
    task = judged_task(agent.experiment, overrides)
    _check_fits(agent, task, overrides)
    with elapsed(to_stderr, f"compiling and flying {episodes} episodes"):
        judged = evaluator_as_given(task, episodes)(agent.policy, jr.key(seed))
    changed = {"overrides": list(overrides), "task": encode(task)} if overrides else {}
    metrics = _metrics_of(agent, judged, seed) | changed
    if out is not None:
        more = {"overrides": list(overrides)} if overrides else {}
        _keep(out, agent, judged, metrics, **more)
    return metrics


def _check_plan(episodes: int, seed: int) -> None:
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes}; it must be at least 1")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"--seed is {seed}; it must lie in [0, 2^32)")


def evaluate_training(run: str | Path, *, episodes: int = FINAL_EPISODES) -> dict[str, Any]:
    """Evaluate a finished training, and make the better of its best and latest policy the best.

    Evaluations during training have few episodes, so that the score by which the best was chosen was partly luck.
    Here both act in the same episodes, of ``CHOICE_SEED``; the better one then acts in others, of ``FINAL_SEED``, whose
    metrics are returned and kept as ``evaluate_run`` does: the maximum of two would be too high.  ``compared`` holds
    the seed and the headlines of both where they are two.
    """
    folder = find(run)
    with RunDirectory(folder):  # nobody trains it meanwhile
        return _evaluate_training(folder, episodes)


def _evaluate_training(folder: Path, episodes: int) -> dict[str, Any]:
    agents = [load_agent(folder, which=which, warn=to_stderr) for which in ("best", "latest")]
    if _is_same_policy(*agents):
        return evaluate_agent(agents[0], episodes=episodes, out=folder)
    evaluate = evaluator_as_given(judged_task(agents[0].experiment, ()), episodes)
    with elapsed(to_stderr, f"compiling and flying {episodes} episodes of two policies"):
        results = [evaluate(agent.policy, jr.key(CHOICE_SEED)) for agent in agents]
    compared = {
        name: {"env_steps": agent.env_steps, "headline": judged.headline}
        for name, agent, judged in zip(("best", "latest"), agents, results, strict=True)
    }
    for name, of in compared.items():
        to_stderr(
            f"{name} policy, of {of['env_steps']:,} environment steps: {of['headline']} ({episodes} episodes)"
        )
    is_latest = results[1].score > results[0].score
    agent = agents[is_latest]
    with elapsed(to_stderr, f"flying {episodes} other episodes of the better one"):
        judged = evaluate(agent.policy, jr.key(FINAL_SEED))
    if is_latest:
        to_stderr("the latest policy is the better one, and becomes the best")
        best = RunDirectory(folder).best
        keep_best(best, agent.policy, judged, agent.env_steps or 0)
        agent = replace(agent, source=best, kind="best")
    metrics = _metrics_of(agent, judged, FINAL_SEED) | {"compared": {"seed": CHOICE_SEED, **compared}}
    _keep(folder, agent, judged, metrics)
    return metrics


def _is_same_policy(one: TrainedAgent, other: TrainedAgent) -> bool:
    pairs = zip(jax.tree.leaves(one.policy), jax.tree.leaves(other.policy), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _metrics_of(agent: TrainedAgent, judged: EvalResult, seed: int) -> dict[str, Any]:
    return judged.metrics | {
        "headline": judged.headline,
        "policy": agent.source.name,
        "env_steps": agent.env_steps,
        "seed": seed,
        **provenance(),
        "config": encode(agent.experiment),
    }


def _keep(out: Path, agent: TrainedAgent, judged: EvalResult, metrics: dict[str, Any], **more: Any) -> None:
    """``eval.json`` and ``flights.npz``."""
    write_json(out / "eval.json", metrics)
    path = RunDirectory(out).flights
    judged.record(path, policy=agent.kind, env_steps=agent.env_steps, **more)


def film_run(
    run: str | Path,
    *,
    episodes: int,
    seed: int = FINAL_SEED,
    which: Which = "best",
    overrides: Sequence[str] = (),
) -> tuple[list[Shot], float]:
    """Pictures of episodes of a policy with a caption each, and the seconds between two.

    Raises ``ConfigError`` where nothing renders.
    """
    agent = load_agent(find(run), which=which, warn=to_stderr)
    task = judged_task(agent.experiment, overrides)
    plan = {"episodes": episodes, "max_steps": task.max_steps, "seed": seed}
    hosted = task.rendering() if isinstance(task, HostedTask) else None
    if hosted is not None:
        return film(hosted, agent.policy, **plan), hosted.spec.ctrl_dt
    env = task.build()
    if isinstance(env, AbstractDroneEnv):
        raise ConfigError(f"{run}: --video films what an environment renders; s5wm plot RUN draws flights")
    return film_compiled(env, agent.policy, **plan), env.spec.ctrl_dt


def kept_in(
    run: str | Path, out: Path | None, overrides: Sequence[str] = (), *, warn: Warn = lambda _: None
) -> Path | None:
    """Where an evaluation leaves its files: ``out``, else the run itself.

    None where neither will do: a shipped policy and a read-only run stay as they are, metrics of a changed task
    (``overrides``) are not the run's, and the files of a run that trains are those of its training (``warn`` tells).
    """
    folder = find(run)
    if out is not None or overrides or not is_run(folder) or not os.access(folder, os.W_OK):
        return out
    if (owner := RunDirectory(folder).owner) is None:
        return folder
    warn(f"process {owner} is using {folder}: this evaluation is not kept there")
    return None


def judged_task(experiment: Experiment, overrides: Sequence[str]) -> AbstractTask:
    """The task of an experiment as it is judged, with ``overrides`` applied to that."""
    if wrong := [each for each in overrides if not each.startswith("task.")]:
        raise ConfigError(
            f"--override {wrong[0]!r} is not of the task: an evaluation flies the policy as it was trained; give "
            "task.PATH=VALUE, or train with the other value"
        )
    return override(replace(experiment, task=experiment.task.eval_config()), overrides).task


def _check_fits(agent: TrainedAgent, task: AbstractTask, overrides: Sequence[str]) -> None:
    """Raises where the policy would read or steer something else than it was trained for."""
    trained, spec = agent.spec, task.build().spec
    what = f"the policy does not fit the task with {', '.join(overrides)}"
    for name in ("obs_shape", "obs_dtype", "vector_size", "action_size"):
        was, now = getattr(trained, name), getattr(spec, name)
        if was != now:
            raise ConfigError(
                f"{what}: {name} is {now}, it was trained with {was}; leave that field as it is"
            )
    before = agent.experiment.task.eval_config()
    for name, was, now in (
        ("type", type(before).__name__, type(task).__name__),
        ("observation", getattr(before, "observation", None), getattr(task, "observation", None)),
    ):
        if was != now:
            raise ConfigError(
                f"{what}: task.{name} is {now!r}, it was trained with {was!r}, and numbers of the same count mean "
                "something else there; leave that field as it is"
            )


def _room_for_evaluation(out: Path, evaluated: Path, overrides: Sequence[str]) -> None:
    """The folder ``out``, made before anything flies; refused where it belongs to another policy or task."""
    is_own = not overrides and out.is_dir() and out.samefile(evaluated) and is_run(out)
    if (out / CONFIG).is_file() and not is_own:
        raise ConfigError(
            f"--out {out} is a run or a policy, whose eval.json would be lost; name another folder"
        )
    room_for_results(out)


def ship(
    run: str | Path, folder: Path, *, episodes: int = FINAL_EPISODES, which: Which = "best"
) -> dict[str, Any]:
    """Write the policy of a run to ``folder`` as it is shipped: arrays and JSON, evaluated afresh."""
    _room_for_policy(folder)
    agent = load_agent(run, which=which, warn=to_stderr)
    metrics = evaluate_agent(agent, episodes=episodes, out=kept_in(run, None, warn=to_stderr))
    write_policy(agent, metrics, folder)
    return metrics


def _room_for_policy(folder: Path) -> None:
    """Refused before anything flies where the folder holds anything but a shipped policy, or none can be made."""
    is_policy = (folder / MANIFEST).is_file() and (folder / "policy.npz").is_file() and not is_run(folder)
    if folder.exists() and not is_policy and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} holds something else, which shipping would remove; choose another name")
    room_for_results(folder.parent, "--to")


def write_policy(agent: TrainedAgent, metrics: dict[str, Any], folder: Path) -> None:
    """``policy.npz``, ``config.json``, ``eval.json`` and their checksums, replacing what is there."""
    with replaced_folder(folder) as new:
        save_policy(new / "policy.npz", agent.policy)
        save_experiment(new / CONFIG, agent.experiment)
        write_json(new / "eval.json", metrics)
