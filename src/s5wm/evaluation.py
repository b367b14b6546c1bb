"""The evaluation protocol: which episodes are flown, and what is reported of them.

Episodes begin at the start pose of the task's evaluation form, end by its rules, and are flown with the policy's
mode.  A race succeeds with at least three laps in a row; a crash after the third does not take it back.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.base import AbstractEnv, OwnTask
from s5wm.envs.hover import HoverConfig, HoverState
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.bounds import check_lap_times, lap_bound
from s5wm.envs.racing.episode import RacingState
from s5wm.envs.racing.laps import MAX_LAPS, Ending, FlightRecord
from s5wm.envs.racing.task import RacingConfig, RacingEnv
from s5wm.envs.toys import ChainConfig, DoubleIntegratorConfig, MemoryCueConfig
from s5wm.errors import ConfigError
from s5wm.flights import Flight, course_of, save_flights
from s5wm.owntask import own_figures
from s5wm.train.best import Judgement
from s5wm.train.evaluate import FlightPlan, Flights, fly
from s5wm.types import Key, OptionalMetric

TaskConfig = RacingConfig | HoverConfig | DoubleIntegratorConfig | MemoryCueConfig | ChainConfig

LAPS_FOR_SUCCESS = 3
HOVER_TOLERANCE = 0.3  # m from the target at the end
RECORDED = 4

SAMPLED = ("success_rate", "crash_rate", "return_nominal", "gates_mean", "margin_mean")
"""What is reported of flights with drawn actions."""

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Flies policies in the evaluation form of a task."""

    task: TaskConfig
    env: AbstractEnv[Any]
    plan: FlightPlan

    def __call__(self, policy: AbstractPolicy[Any, Any], key: Key) -> Judgement:
        """One evaluation."""
        flights = jax.device_get(fly(self.env, policy, self.plan, key))
        figures = self._figures(flights) | self._sampled(policy, key)
        recorded = recorded_flights(self.task, self.env, flights)
        course = course_of(self.env.track) if isinstance(self.env, RacingEnv) else None
        return judge(figures, ft.partial(save_flights, flights=recorded, course=course))

    def _figures(self, flights: Flights) -> Figures:
        return _common(flights) | _figures(self.task, self.env, flights)

    def _sampled(self, policy: AbstractPolicy[Any, Any], key: Key) -> Figures:
        """How the policy flies when its actions are drawn, as in training, from the same first states.

        Mean actions from nearly one place are nearly one flight, flown again and again: beside it stands how much
        noise it bears.
        """
        plan = replace(self.plan, recorded=0, sampled=True)
        figures = self._figures(jax.device_get(fly(self.env, policy, plan, key)))
        return {f"sampled_{name}": figures[name] for name in SAMPLED if name in figures}


def rules_of_a_test(task: TaskConfig) -> TaskConfig:
    """The task as it is judged: a race from its start pose, over longer episodes; others as they are trained on."""
    return task.evaluation() if isinstance(task, RacingConfig | OwnTask) else task


def evaluator(task: TaskConfig, episodes: int) -> Evaluator:
    """The evaluator of a task, by the rules of a test."""
    return evaluator_as_given(rules_of_a_test(task), episodes)


def evaluator_as_given(judged: TaskConfig, episodes: int) -> Evaluator:
    """The evaluator of a task whose rules stay as they are."""
    env = judged.build()
    plan = FlightPlan(
        episodes=episodes,
        max_steps=longest_episode(judged),
        recorded=min(RECORDED, episodes),
        snapshot=_snapshot(judged),
    )
    return Evaluator(task=judged, env=env, plan=plan)


def longest_episode(task: TaskConfig) -> int:
    """Steps after which an episode of the task has ended for sure."""
    if isinstance(task, OwnTask):
        return task.max_steps
    match task:
        case RacingConfig():
            return task.limits.episode
        case HoverConfig():
            return round(task.seconds / task.build().spec.ctrl_dt)
        case DoubleIntegratorConfig():
            return task.steps
        case MemoryCueConfig():
            return 2 * task.delay
        case ChainConfig():
            return task.places
    missing = [name for name in ("evaluation", "max_steps", "success") if not hasattr(task, name)]
    raise ConfigError(
        f"the task {type(task).__name__} does not say how it is judged: give it {', '.join(missing)} "
        "(CONTRIBUTING, Add an environment)"
    )


def judge(figures: Figures, save: Callable[..., None]) -> Judgement:
    """Score and texts from figures; better is more success, then faster laps, then more reward."""
    names = {
        "success": "success_rate",
        "lap_time": "lap_time_mean",
        "return_nominal": "return_nominal",
        "laps": "laps_mean",
        "gates": "gates_mean",
        "crash": "crash_rate",
        "error": "error_mean",
        "margin": "margin_mean",
        "sampled_success": "sampled_success_rate",
    }
    row = {
        f"eval/{short}": float(figures[name])
        for short, name in names.items()
        if figures.get(name) is not None
    }
    lap = figures.get("lap_time_mean")
    return Judgement(
        success=figures["success_rate"],
        score=(figures["success_rate"], -lap if lap is not None else -1e9, figures["return_nominal"]),
        row=row,
        figures=figures,
        headline=headline(figures),
        save_flights=save,
    )


def headline(figures: Figures) -> str:
    """The figures in one line."""
    parts = [f"success {figures['success_rate']:.0%}"]
    forms = (("lap_time_mean", "lap {:.2f} s"), ("above_bound_percent", "{:.1f} % above the bound"))
    forms += (
        ("laps_mean", "{:.1f} laps"),
        ("gates_mean", "{:.1f} gates"),
        ("margin_mean", "margin {:.2f} m"),
    )
    forms += (("error_mean", "error {:.2f} m"), ("sampled_success_rate", "{:.0%} with drawn actions"))
    parts += [form.format(figures[name]) for name, form in forms if figures.get(name) is not None]
    return ", ".join([*parts, f"return {figures['return_nominal']:.2f}"])


def _common(flights: Flights) -> Figures:
    return {
        "episodes": int(flights.steps.shape[0]),
        "return_nominal": float(np.mean(flights.return_nominal)),
        "return_smoothing": float(np.mean(flights.return_smoothing)),
        "crash_rate": float(np.mean(flights.is_terminal)),
        "steps_mean": float(np.mean(flights.steps)),
    }


def _figures(task: TaskConfig, env: AbstractEnv[Any], flights: Flights) -> Figures:
    if isinstance(task, OwnTask):
        return _NO_LAPS | own_figures(task, flights)
    match task:
        case RacingConfig():
            assert isinstance(env, RacingEnv)
            record = jax.vmap(env.flight_record)(flights.final)
            return race_figures(task, jax.tree.map(jnp.asarray, record))
        case HoverConfig():
            return _hover_figures(flights)
        case DoubleIntegratorConfig():
            return _NO_LAPS | {"success_rate": float(np.mean(_of_each(flights, "distance") < 0.1))}
        case MemoryCueConfig():  # 1/2 and 3/2 for the right answers
            return _NO_LAPS | {"success_rate": float(np.mean(flights.return_nominal > 0.0))}
        case ChainConfig():
            return _NO_LAPS | {"success_rate": float(np.mean(flights.return_nominal > 0.5))}


_NO_LAPS: Figures = dict.fromkeys(
    (
        "lap_time_mean",
        "lap_time_std",
        "lap_time_best",
        "launch_lap",
        "speed_max",
        "bound_s",
        "above_bound_percent",
    )
)


def race_figures(task: RacingConfig, record: FlightRecord) -> Figures:
    """Figures of finished flights ``[K]``; raises ``ImpossibleLapError`` for a lap that beats physics."""
    times = np.asarray(record.lap_times, np.float64)
    check_lap_times(task.track, task.quad, times[np.asarray(record.has_lap)])
    flying = times[np.asarray(record.has_flying_lap)]
    launch = np.asarray(record.launch_lap, np.float64)[np.asarray(record.has_launch_lap)]
    bound = lap_bound(task.track, task.quad)
    mean = float(flying.mean()) if flying.size else None
    above = None if mean is None or bound is None else 100.0 * (mean / bound - 1.0)
    endings = np.asarray(record.ending)
    margin = np.asarray(record.margin, np.float64)[np.asarray(record.gates) > 0]
    return {
        "success_rate": float(np.mean(np.asarray(record.laps) >= LAPS_FOR_SUCCESS)),
        "lap_time_mean": mean,
        "lap_time_std": float(flying.std()) if flying.size else None,
        "lap_time_best": float(flying.min()) if flying.size else None,
        "launch_lap": float(launch.mean()) if launch.size else None,
        "crash_rate": float(np.mean(record.crash)),
        "speed_max": float(np.max(record.top_speed)),
        "bound_s": bound,
        "above_bound_percent": above,
        "laps_mean": float(np.mean(record.laps)),
        "gates_mean": float(np.mean(record.gates)),
        "margin_mean": float(margin.mean()) if margin.size else None,
        "margin_min": float(margin.min()) if margin.size else None,
        "endings": {e.name.lower(): int(np.sum(endings == e)) for e in Ending if np.any(endings == e)},
    }


def _hover_figures(flights: Flights) -> Figures:
    final = _of_each(flights, "error_last")
    stayed = ~np.asarray(flights.is_terminal)
    return _NO_LAPS | {
        "success_rate": float(np.mean(stayed & (final < HOVER_TOLERANCE))),
        "error_mean": float(np.mean(_of_each(flights, "error_mean"))),
        "error_last": float(np.mean(final)),
    }


def _of_each(flights: Flights, name: str) -> Float[np.ndarray, " K"]:
    """A figure that every episode has."""
    figure = flights.metrics[name]
    assert not isinstance(figure, OptionalMetric)
    return np.asarray(figure)


def _snapshot(task: TaskConfig) -> Callable[[Any], dict[str, Any]]:
    match task:
        case RacingConfig():
            return _race_snapshot
        case HoverConfig():
            return _hover_snapshot
        case _:
            return _no_snapshot


def _race_snapshot(state: RacingState) -> dict[str, Any]:
    return _pose(state.quad) | {"target": state.target}


def _hover_snapshot(state: HoverState) -> dict[str, Any]:
    return _pose(state.quad) | {"target": jnp.zeros((), jnp.int32)}


def _pose(quad: QuadState) -> dict[str, Any]:
    return {"pos_w": quad.pos_w, "vel_w": quad.vel_w, "quat": quad.quat}


def _no_snapshot(state: Any) -> dict[str, Any]:
    del state
    return {}


def recorded_flights(task: TaskConfig, env: AbstractEnv[Any], flights: Flights) -> list[Flight]:
    """The recorded episodes, the one with most gates first; none for tasks without a drone."""
    if not isinstance(task, RacingConfig | HoverConfig):
        return []
    recorded = [_flight(env, flights, index) for index in range(flights.recording.action.shape[0])]
    return sorted(recorded, key=lambda flight: (-flight.gates, flight.crashed))


def _flight(env: AbstractEnv[Any], flights: Flights, index: int) -> Flight:
    rows = int(flights.steps[index]) + 1
    action = np.asarray(flights.recording.action[index])[:rows]
    rest = np.repeat(
        action[-1:], rows - len(action), axis=0
    )  # the last row of a flight to the end has no action
    states = {name: np.asarray(value[index])[:rows] for name, value in flights.recording.snapshot.items()}
    return Flight(
        **states,
        time=np.arange(rows, dtype=np.float32) * env.spec.ctrl_dt,
        action=np.concatenate([action, rest]),
        **_outcome(flights, index),
    )


def _outcome(flights: Flights, index: int) -> Figures:
    if not isinstance(flights.final, RacingState):
        ending = Ending.OUT_OF_BOX if flights.is_terminal[index] else Ending.TIME_LIMIT
        return {"gates": 0, "lap_times": (), "ending": ending.name}
    clock = flights.final.clock
    count = min(int(clock.laps[index]), MAX_LAPS)
    return {
        "gates": int(flights.final.gates[index]),
        "lap_times": tuple(float(t) for t in clock.times[index][:count]),
        "ending": Ending(int(flights.final.ending[index])).name,
    }
