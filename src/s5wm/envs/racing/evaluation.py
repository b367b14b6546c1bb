"""Evaluation of a race: lap times, gates, margins, endings; groups of its state vectors."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from s5wm.envs.base import AbstractEnv
from s5wm.envs.groups import Group, Groups, flight_groups
from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.bounds import check_lap_times, lap_bound
from s5wm.envs.racing.camera import CameraConfig
from s5wm.envs.racing.episode import Limits, RacingState
from s5wm.envs.racing.laps import MAX_LAPS, Ending, FlightRecord
from s5wm.envs.racing.observation import (
    POSITION_SCALE,
    RATE_SCALE,
    VELOCITY_SCALE,
    Layout,
    PrivilegedLayout,
    target_from,
)
from s5wm.envs.racing.positions import pose_from_layout_c
from s5wm.envs.racing.presets import for_agent
from s5wm.envs.racing.reward import RewardConfig, reward_range
from s5wm.envs.racing.track import TrackConfig
from s5wm.envs.racing.variation import VariationConfig
from s5wm.envs.task import AbstractDroneTask, Column, Episodes, Perturbations, ReportedMetric, Summary
from s5wm.runs.flights import TrackGeometry, track_geometry

LAPS_FOR_SUCCESS = 3
"""In a row; a crash after the third does not take it back."""

REPORTED: Sequence[ReportedMetric] = (
    ReportedMetric(name="lap_time_mean", log="lap_time", form="lap {:.2f} s", better="min"),
    ReportedMetric(name="above_bound_percent", form="{:.1f} % above the bound"),
    ReportedMetric(name="laps_mean", log="laps", form="{:.1f} laps"),
    ReportedMetric(name="gates_mean", log="gates", form="{:.1f} gates", sampled=True),
    ReportedMetric(name="margin_mean", log="margin", form="margin {:.2f} m", sampled=True),
    ReportedMetric(name="crash_rate", log="crash", sampled=True),
)

COLUMNS: Sequence[Column] = (
    Column(name="episode/gates", title="gates"),
    Column(name="episode/laps", title="laps"),
    Column(name="episode/crash", title="crash", form="{:.0%}"),
    Column(name="eval/lap_time", title="lap", form="{:.2f} s"),
)

RACING: Groups = (
    *flight_groups(POSITION_SCALE, VELOCITY_SCALE, RATE_SCALE),
    # Of the target, relative to the drone; then of the one after it, relative to the target.
    Group(name="gate", start=15, stop=18, scale=POSITION_SCALE, unit="m"),
    Group(name="next_gate", start=18, stop=21, scale=POSITION_SCALE, unit="m"),
)
"""Racing in layout B."""

RACING_A: Groups = (
    Group(name="velocity", start=0, stop=3, scale=VELOCITY_SCALE, unit="m/s"),
    Group(name="gate", start=12, stop=24, scale=POSITION_SCALE, unit="m", points=4),  # its corners
)
"""Racing in layout A; its attitude is by rows and has no error here."""

RACING_C: Groups = (
    Group(name="velocity", start=0, stop=3, scale=VELOCITY_SCALE, unit="m/s"),  # in body axes, as all of it
    Group(name="up", start=3, stop=6),
    Group(name="body_rates", start=6, stop=9, scale=RATE_SCALE, unit="rad/s"),
    # Of the target, relative to the drone; then of the one after it, relative to the drone too.
    Group(name="gate", start=9, stop=12, scale=POSITION_SCALE, unit="m"),
    Group(name="next_gate", start=15, stop=18, scale=POSITION_SCALE, unit="m"),
)
"""Racing in layout C; its attitude is the direction of up, and its position that of the target."""

OBSERVED: dict[Layout, Groups] = {"A": RACING_A, "B": RACING, "C": RACING_C}
"""By the layout that a state vector begins with."""


def race_groups(layout: Layout, privileged_layout: PrivilegedLayout) -> Groups:
    """Groups of vectors in this layout, beside a privileged vector in that one, which tells the target."""
    return tuple(
        replace(group, goal_from=target_from(privileged_layout)) if group.name == "gate" else group
        for group in OBSERVED[layout]
    )


def race_summary(race: "AbstractRace", record: FlightRecord) -> Summary:
    """Metrics of finished flights ``[K]``; raises ``ImpossibleLapError`` for a lap below the bound."""
    record = jax.tree.map(jnp.asarray, record)
    times = np.asarray(record.lap_times, np.float64)
    check_lap_times(race.track, race.quad, times[np.asarray(record.has_lap)])
    flying = times[np.asarray(record.has_flying_lap)]
    launch = np.asarray(record.launch_lap, np.float64)[np.asarray(record.has_launch_lap)]
    bound = race.bounds.get("eval/lap_time")
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


def race_score(summary: Any) -> tuple[float, ...]:
    """Score: success, then lap time, then return."""
    lap = summary.get("lap_time_mean")
    return (summary["success_rate"], -lap if lap is not None else -1e9, summary["return_nominal"])


def race_snapshot(state: RacingState) -> dict[str, Any]:
    """Recorded arrays of a state."""
    quad = state.quad
    return {"pos_w": quad.pos_w, "vel_w": quad.vel_w, "quat": quad.quat, "target": state.target}


def race_outcome(episodes: Episodes, index: int) -> dict[str, Any]:
    """Gates, lap times (s) and ending of one flight."""
    final: RacingState = episodes.final
    count = min(int(final.clock.laps[index]), MAX_LAPS)
    return {
        "gates": int(final.gates[index]),
        "lap_times": tuple(float(t) for t in final.clock.times[index][:count]),
        "ending": Ending(int(final.ending[index])).name,
    }


class AbstractRace(AbstractDroneTask):
    """The evaluation of a race, whatever its environment is like."""

    track: TrackConfig
    quad: QuadConfig
    observation: Layout
    privileged_layout: PrivilegedLayout
    variation: VariationConfig | None
    reward: RewardConfig
    camera: CameraConfig | None
    drone_radius: float

    def refusal(self) -> str | None:
        """Refuse variation of a race by images."""
        if self.variation is None or self.camera is None:
            return None
        return "task.variation varies races observed by states; this one has a camera: leave it out"

    def reward_range(self) -> tuple[float, float]:
        """By the weights of its terms."""
        return reward_range(self.reward)

    def as_trained(self, *, imagines: bool, size: str) -> Any:
        """By default; see ``for_agent``."""
        race: Any = self
        return for_agent(race, imagines=imagines, size=size)

    def perturbations(self) -> Perturbations | None:
        """The quadrotor and the gates vary, where states are observed."""
        from s5wm.envs.racing.perturb import perturbations  # which imports races

        race: Any = self
        return None if self.camera is not None else perturbations(race)

    def training_env(self) -> AbstractEnv[Any]:
        """The race, in worlds that are drawn for each episode where they vary."""
        from s5wm.envs.racing.varied import VariedRace, ranges_of  # which imports races

        race: Any = self.build()
        return race if self.variation is None else VariedRace(race, ranges_of(self.variation))

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """Time limit and stall limit in control periods."""

    @property
    def max_steps(self) -> int:
        """The time limit."""
        return self.limits.episode

    def summary(self, env: AbstractEnv[Any], episodes: Episodes) -> Summary:
        """Laps, gates, margins and endings."""
        race: Any = env  # of the same folder, which imports this module
        return race_summary(self, jax.vmap(race.flight_record)(episodes.final))

    def score(self, summary: Mapping[str, Any]) -> tuple[float, ...]:
        """Score: success, then lap time, then return."""
        return race_score(summary)

    @property
    def reported_metrics(self) -> Sequence[ReportedMetric]:
        """Laps, gates and margins."""
        return REPORTED

    @property
    def columns(self) -> Sequence[Column]:
        """Gates, laps, crashes and lap times."""
        return COLUMNS

    @property
    def bounds(self) -> Mapping[str, float]:
        """The time-optimal lap in s."""
        bound = lap_bound(self.track, self.quad, self.drone_radius)
        return {} if bound is None else {"eval/lap_time": bound}

    def state_groups(self, target: Literal["observation", "privileged"]) -> Groups:
        """By the layout of that vector."""
        return race_groups(self._layout_of(target), self.privileged_layout)

    def _layout_of(self, target: Literal["observation", "privileged"]) -> Layout:
        return self.observation if target == "observation" else self.privileged_layout

    def snapshot(self) -> Callable[[Any], dict[str, Any]]:
        """Pose and target."""
        return race_snapshot

    def outcome(self, episodes: Episodes, index: int) -> dict[str, Any]:
        """Gates, laps and ending."""
        return race_outcome(episodes, index)

    def positions(
        self,
        track: TrackGeometry | None,
        state: Float[np.ndarray, "*b Y"],
        target: Literal["observation", "privileged"],
    ) -> Float[np.ndarray, "*b 3"] | None:
        """In layout C by the gate ahead, else by the position that they hold."""
        if track is not None and self._layout_of(target) == "C":
            return np.asarray(
                pose_from_layout_c(*map(jnp.asarray, (track.gate_pos, track.gate_yaw, state))).pos_w
            )
        return super().positions(track, state, target)

    def track_geometry(self, env: AbstractEnv[Any]) -> TrackGeometry:
        """Its gates."""
        race: Any = env  # of the same folder, which imports this module
        return track_geometry(race.track)
