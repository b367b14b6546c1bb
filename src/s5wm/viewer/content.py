"""Content of a page: JSON of one or several policies on one task."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from s5wm.diagnostics.positions import positions_of, track_of_task
from s5wm.diagnostics.run import tested
from s5wm.diagnostics.video_predictions import ghost_images
from s5wm.envs.base import AbstractCameraEnv
from s5wm.errors import ConfigError
from s5wm.experiments.trained import Which
from s5wm.runs.flights import TrackGeometry
from s5wm.runs.provenance import version
from s5wm.viewer.episode import Episode, run_episode
from s5wm.viewer.futures import Futures, FuturesConfig, ImageFutures, predict_futures, predict_images
from s5wm.viewer.pack import band_of, packed, sprite, within
from s5wm.viewer.panels import (
    Panel,
    Target,
    action_panels,
    flight_panels,
    predicted_group,
    return_panels,
    state_panels,
    value_panel,
)
from s5wm.viewer.subject import Subject, load_subject

Content = dict[str, Any]
"""JSON values."""


def view_content(
    runs: Sequence[str | Path], *, config: FuturesConfig, which: Which, seed: int, log: Callable[[str], None]
) -> Content:
    """Content of a page on which every policy flies the same task from the same start."""
    subjects = [load_subject(run, which=which, warn=log) for run in runs]
    check_comparable(subjects, runs)
    names = _distinct([subject.name for subject in subjects], runs)
    track = track_of_task(subjects[0].experiment.task)
    layouts = [_layout(subject) for subject in subjects]
    differ = len(set(layouts)) > 1
    policies: list[Content] = []
    for subject, name, layout in zip(subjects, names, layouts, strict=True):
        log(f"running an episode of {name} ...")
        episode = run_episode(subject.experiment.task, subject.policy, seed)
        policies.append({"name": name, **policy_content(subject, episode, config, layout if differ else "")})
    return {
        "task": subjects[0].experiment.name.task or "task",
        "version": version("s5wm"),
        "seed": seed,
        "course": None if track is None else track_content(track),
        "policies": policies,
    }


def check_comparable(subjects: Sequence[Subject], runs: Sequence[str | Path]) -> None:
    """Raises ``ConfigError`` unless all fly through the same gates, or share their task where there are none.

    Rewards, starts and quadrotors of races may differ: that is what one compares.
    """
    if len(set(map(str, runs))) < len(runs):
        raise ConfigError("a run was given twice; name each once")
    first = _compared(subjects[0])
    for subject, run in zip(subjects[1:], runs[1:], strict=True):
        if _compared(subject) != first:
            raise ConfigError(
                f"{run} was trained on another track or task than {runs[0]}, and a page shows one track: view them "
                "one by one"
            )


def _compared(subject: Subject) -> Any:
    task = subject.experiment.task
    track = track_of_task(task)
    return task.eval_config() if track is None else track_content(track)


def _layout(subject: Subject) -> str:
    """The layout of the state that is shown, of a task that has several: the same numbers mean something else there."""
    name = "privileged_layout" if _target(subject) == "privileged" else "observation"
    return str(getattr(subject.experiment.task.underlying, name, ""))


def _target(subject: Subject) -> Target:
    return "observation" if subject.model is None else subject.model.config.target


def policy_content(subject: Subject, episode: Episode, config: FuturesConfig, layout: str = "") -> Content:
    """One policy: its episode, curves, flight, images, and what its world model predicted.

    ``layout`` names that of its state, where other policies on the page have another.
    """
    model = subject.model
    has_images = episode.images is not None
    target = _target(subject)
    decodes_images = has_images and target == "observation"
    futures = None
    if model is not None and not decodes_images:
        futures = predict_futures(model, episode, config, has_heads=subject.has_heads)
    panels = _panels(subject, episode, futures, target, layout)
    spec = tested(subject.experiment).spec
    content: Content = {
        "facts": subject.facts,
        "note": subject.note,
        "dt": episode.dt,
        "rows": episode.rows,
        "outcome": _outcome(episode),
        "panels": [_panel_content(panel) for panel in [*panels, *action_panels(spec.action, episode.action)]],
        "flight": _flight_content(episode),
        "futures": None if futures is None else _futures_content(subject, episode, futures, target),
        "camera": None,
    }
    if has_images:
        predicted = None
        if model is not None:
            predicted = _predicted_images(subject, episode, futures, config)
        content["camera"] = _camera_content(episode, predicted)
    return content


def _panels(
    subject: Subject, episode: Episode, futures: Futures | None, target: Target, layout: str
) -> list[Panel]:
    flight, groups = episode.snapshot, subject.experiment.task.state_groups(target)
    panels: list[Panel] = []
    if flight:
        velocity, position = (
            predicted_group(groups, futures, "velocity"),
            _positions(subject, futures, target),
        )
        panels += flight_panels(flight["vel_w"], flight["pos_w"], velocity, position)
    read = episode.numbers if target == "observation" else episode.timestep.privileged
    if read is not None:
        names = tested(subject.experiment).spec.obs_names if target == "observation" else ()
        shown = state_panels(groups, names, np.asarray(read), futures, kind=target)
        if layout:
            shown = [replace(panel, section=f"{panel.section}, layout {layout}") for panel in shown]
        panels += shown
    panels += return_panels(episode, futures)
    if subject.values is not None:
        values = np.asarray(subject.values(episode.timestep, jnp.asarray(episode.action)))
        discount, weight = subject.experiment.agent.discount, subject.smoothing_weight
        panels.append(value_panel(episode, values, discount=discount, smoothing_weight=weight))
    return panels


def _panel_content(panel: Panel) -> Content:
    content: Content = {
        "section": panel.section,
        "title": panel.title,
        "unit": panel.unit,
        "real": packed(panel.real),
        "also": None if panel.also is None else packed(panel.also),
        "also_title": panel.also_title,
        "band": None,
    }
    if panel.predicted is not None:
        content["band"] = packed(band_of(panel.predicted, panel.real))
    return content


def _outcome(episode: Episode) -> list[list[str]]:
    """Pairs of a name and a value, as text."""
    rows = [["return", f"{episode.reward.sum():.2f}"], ["length", f"{(episode.rows - 1) * episode.dt:.2f} s"]]
    outcome = episode.outcome
    if outcome is None:
        rows += [[name.replace("_", " "), f"{value:.4g}"] for name, value in episode.metrics.items()]
        return [*rows, ["end", episode.ending]]
    if outcome["gates"] or outcome["lap_times"]:
        rows.append(["gates", str(outcome["gates"])])
    laps = ", ".join(f"{lap:.2f}" for lap in outcome["lap_times"])
    if laps:
        rows.append(["laps", f"{laps} s"])
    return [*rows, ["end", str(outcome["ending"]).replace("_", " ").lower()]]


def _flight_content(episode: Episode) -> Content | None:
    if not episode.snapshot:
        return None
    shown = episode.snapshot
    return {
        "position": packed(shown["pos_w"]),
        "attitude": packed(shown["quat"]),
        "speed": packed(np.linalg.norm(shown["vel_w"], axis=-1)),
        "target": [int(gate) for gate in shown["target"]],
    }


def _futures_content(subject: Subject, episode: Episode, futures: Futures, target: Target) -> Content:
    position = _positions(subject, futures, target)
    if position is not None:
        position = within(position, episode.snapshot["pos_w"])
    return {
        "moment": futures.moment.tolist(),
        "ahead": futures.ahead.tolist(),
        "position": None if position is None else packed(position),
    }


def _positions(subject: Subject, futures: Futures | None, target: Target) -> np.ndarray | None:
    return None if futures is None else positions_of(subject.experiment.task, futures.state, target)


def _predicted_images(
    subject: Subject, episode: Episode, futures: Futures | None, config: FuturesConfig
) -> tuple[ImageFutures, str] | None:
    """Decoded images, or the task's camera at the predicted pose where a state is predicted."""
    assert subject.model is not None, "only a world model predicts"
    if futures is None:
        return predict_images(subject.model, episode, config), "decoded by the world model"
    env: Any = tested(subject.experiment)
    if not isinstance(env, AbstractCameraEnv):
        return None
    moment, places = slice(None, None, 2), np.linspace(0, len(futures.ahead) - 1, 6).round().astype(int)
    states = futures.state[moment, 0][:, places]
    known = np.isfinite(states).all(axis=-1)
    # Beyond the end of the episode nothing is predicted; the last state that is stands there.
    last = np.maximum.accumulate(np.where(known, np.arange(len(places)), 0), axis=1)
    states = np.take_along_axis(states, last[..., None], axis=1)
    images = [np.asarray(ghost_images(env, jnp.asarray(one, jnp.float32))) for one in states]
    shown = ImageFutures(
        moment=futures.moment[moment], ahead=futures.ahead[places], image=np.stack(images) / 255.0
    )
    return shown, "the task's camera at the predicted pose"


def _camera_content(episode: Episode, predicted: tuple[ImageFutures, str] | None) -> Content:
    assert episode.images is not None, "only a camera is shown"
    content: Content = {"real": sprite(episode.images), "predicted": None}
    if predicted is not None:
        futures, how = predicted
        images = np.round(255.0 * np.clip(futures.image, 0.0, 1.0)).astype(np.uint8)
        content["predicted"] = {
            "sprite": sprite(images.reshape(-1, *images.shape[2:])),
            "moment": futures.moment.tolist(),
            "ahead": futures.ahead.tolist(),
            "how": how,
        }
    return content


def track_content(track: TrackGeometry) -> Content:
    """Gates, box and start."""
    return {field.name: np.asarray(getattr(track, field.name)).tolist() for field in fields(TrackGeometry)}


def _distinct(names: Sequence[str], runs: Sequence[str | Path]) -> list[str]:
    """Agents and sizes, with the run where several share one."""
    if len(set(names)) == len(names):
        return list(names)
    return [f"{name} ({run})" for name, run in zip(names, runs, strict=True)]
