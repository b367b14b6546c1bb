"""The contract of a task: its environment, its evaluation, and the metrics that it reports."""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.envs.base import AbstractEnv
from s5wm.envs.groups import Groups
from s5wm.runs.flights import Flight, TrackGeometry
from s5wm.runs.reporting import Column as Column
from s5wm.runs.reporting import ReportedMetric as ReportedMetric
from s5wm.types import EpisodeMetrics, OptionalMetric

Summary = dict[str, Any]
"""Metrics of an evaluation by name, JSON values."""


class Recording(eqx.Module):
    """``R`` episodes step by step; index ``t`` holds the state at ``t`` and the action chosen there.

    Entries beyond ``steps`` of an episode are meaningless.
    """

    snapshot: Any  # [R, T+1, ...]
    action: Float[Array | np.ndarray, "R T A"]  # as decoded for a Box within [-1, 1], else the agent's vector


class Episodes(eqx.Module):
    """``K`` episodes of an evaluation, each at its end."""

    final: Any  # states of the environment [K, ...]; None where it lives outside the program
    return_nominal: Float[Array | np.ndarray, " K"]
    return_smoothing: Float[Array | np.ndarray, " K"] | None
    steps: Int[Array | np.ndarray, " K"]
    is_terminal: Bool[Array | np.ndarray, " K"]
    metrics: EpisodeMetrics  # what the environment says of each episode, [K]
    recording: Recording | None
    notices: tuple[str, ...] = eqx.field(static=True, default=())  # of environments that failed

    def of_each(self, name: str) -> Float[np.ndarray, " K"]:
        """A metric of every episode; NaN where an episode lacks it."""
        metric = self.metrics[name]
        if isinstance(metric, OptionalMetric):
            return np.where(metric.exists, metric.value, np.nan)
        return np.asarray(metric)

    def means(self) -> Summary:
        """``NAME_mean`` of each metric over the episodes that have it; None where none has."""
        each = {name: self.of_each(name) for name in self.metrics}
        return {
            f"{name}_mean": float(np.nanmean(values)) if np.isfinite(values).any() else None
            for name, values in each.items()
        }


@dataclass(frozen=True, kw_only=True)
class Perturbations:
    """Perturbed environments of a task by suite and strength."""

    suites: Mapping[str, Mapping[str, float]]  # what each changes, and by how much at full strength
    build: Callable[[str | None, float], AbstractEnv[Any]]  # suite (None: nothing is changed) and strength
    summary: Callable[[Episodes], Summary]
    caption: str = ""  # of a picture: what success means


class AbstractTask(ABC):
    """The configuration of a task: a frozen dataclass that its run's ``config.json`` gives back.

    Only ``build`` and ``max_steps`` are required.  All else has defaults that suit a task with a return.
    """

    @property
    def underlying(self) -> "AbstractTask":
        """The task itself; of a configuration that stands for another task, that one.

        Whoever asks for the class of a task (``isinstance(task, AbstractDroneTask)``) asks for that of this one.
        """
        return self

    @abstractmethod
    def build(self) -> AbstractEnv[Any]:
        """The environment, without a batch axis."""

    @property
    @abstractmethod
    def max_steps(self) -> int:
        """Steps after which an episode of an evaluation is cut, if it has not ended by itself."""

    def refusal(self) -> str | None:
        """Why it cannot be trained on, and what to change; None if it can."""
        return None

    def reward_range(self) -> tuple[float, float] | None:
        """The least and the largest nominal reward of a step; None where that is not known."""
        return None

    def training_env(self) -> AbstractEnv[Any]:
        """The environment of training; by default that of ``build``."""
        return self.build()

    def eval_config(self) -> "AbstractTask":
        """The configuration that is evaluated, of the same class."""
        return self

    def as_trained(self, *, imagines: bool, size: str) -> Any:
        """The default training form of the task for agents of this kind and size; its evaluation does not change."""
        del imagines, size
        return self

    def perturbations(self) -> Perturbations | None:
        """Suites of ``s5wm eval --perturb``; None if there are none."""
        return None

    def success(
        self, metrics: Mapping[str, Float[np.ndarray, " K"]], returns: Float[np.ndarray, " K"]
    ) -> Bool[np.ndarray, " K"] | None:
        """Which of ``K`` episodes solved the task, by their metrics (NaN: has none) and nominal returns.

        None where success means nothing.
        """
        del metrics, returns
        return None

    def summary(self, env: AbstractEnv[Any], episodes: Episodes) -> Summary:
        """Further results of an evaluation than returns and lengths: means of the metrics, and the success rate."""
        del env
        metrics = {name: episodes.of_each(name) for name in episodes.metrics}
        solved = self.success(metrics, np.asarray(episodes.return_nominal))
        rate = {} if solved is None else {"success_rate": float(np.mean(solved))}
        return episodes.means() | rate

    def score(self, summary: Mapping[str, Any]) -> tuple[float, ...]:
        """Larger is better, compared from the left."""
        value = summary["return_nominal"]
        # NaN compares as neither larger nor smaller: once the best, it would stay so.
        return (summary.get("success_rate") or 0.0, value if math.isfinite(value) else -sys.float_info.max)

    @property
    def reported_metrics(self) -> Sequence[ReportedMetric]:
        """Its own metrics in the order of headline and log, between success and return."""
        return ()

    @property
    def columns(self) -> Sequence[Column]:
        """Its own columns of the log, between return and success."""
        return (Column(name="episode/length", title="length", form="{:.0f}"),)

    @property
    def bounds(self) -> Mapping[str, float]:
        """The best possible value of a logged metric (``"eval/lap_time"``), where that is known."""
        return {}

    def state_groups(self, target: Literal["observation", "privileged"]) -> Groups | None:
        """Named groups of that vector with units; None if unknown."""
        del target
        return None


class AbstractDroneTask(AbstractTask):
    """A task in which a drone flies: its evaluations record flights that can be drawn."""

    @abstractmethod
    def snapshot(self) -> Callable[[Any], dict[str, Any]]:
        """A function of a state: the arrays ``pos_w``, ``vel_w``, ``quat`` and ``target`` of a ``Flight``."""

    @abstractmethod
    def outcome(self, episodes: Episodes, index: int) -> dict[str, Any]:
        """``gates``, ``lap_times`` and ``ending`` of the flight of one episode."""

    def track_geometry(self, env: AbstractEnv[Any]) -> TrackGeometry | None:
        """The gates, where there are any."""
        del env
        return None

    def positions(
        self,
        track: TrackGeometry | None,
        state: Float[np.ndarray, "*b Y"],
        target: Literal["observation", "privileged"],
    ) -> Float[np.ndarray, "*b 3"] | None:
        """Positions (m) of the drone in vectors of that kind; None if they hold none."""
        del track
        place = next((group for group in self.state_groups(target) or () if group.name == "position"), None)
        return None if place is None else place.scale * state[..., place.start : place.stop]

    def flights(self, env: AbstractEnv[Any], episodes: Episodes) -> list[Flight]:
        """The recorded episodes, the one with most gates first."""
        if episodes.recording is None:
            return []
        count = episodes.recording.action.shape[0]
        recorded = [self._flight(env, episodes, episodes.recording, index) for index in range(count)]
        return sorted(recorded, key=lambda flight: (-flight.gates, flight.crashed))

    def _flight(self, env: AbstractEnv[Any], episodes: Episodes, recording: Recording, index: int) -> Flight:
        length = int(episodes.steps[index]) + 1
        action = np.asarray(recording.action[index])[:length]
        # The last state of a flight to the end has no action.
        rest = np.repeat(action[-1:], length - len(action), axis=0)
        states = {name: np.asarray(value[index])[:length] for name, value in recording.snapshot.items()}
        return Flight(
            **states,
            time=np.arange(length, dtype=np.float32) * env.spec.ctrl_dt,
            action=np.concatenate([action, rest]),
            **self.outcome(episodes, index),
        )
