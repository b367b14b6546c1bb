"""Hover: from a disturbed state to rest at a point; the small task of the same quadrotor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from s5wm.actions import Box
from s5wm.envs.base import AbstractDroneEnv, AbstractEnv, Deployment, DroneView, EnvSpec
from s5wm.envs.groups import Groups, flight_groups
from s5wm.envs.quadrotor import bodyrate, integrate, quaternion
from s5wm.envs.quadrotor.params import QuadConfig, QuadParams
from s5wm.envs.quadrotor.smoothing import smoothing_reward
from s5wm.envs.quadrotor.state import QuadState, hover_state
from s5wm.envs.task import AbstractDroneTask, Column, Episodes, ReportedMetric, Summary
from s5wm.types import EpisodeMetrics, Key, Reward, Scalar, TimeStep

OBS_SIZE = 15
PRIVILEGED_SIZE = OBS_SIZE + 8
TOLERANCE = 0.3  # m from the target at the end

HOVER = flight_groups(position=3.0, velocity=5.0, rate=10.0)
"""Units of the observation, and of the privileged vector, which begins with it."""


@dataclass(frozen=True, kw_only=True)
class HoverConfig(AbstractDroneTask):
    """Initial states, limits and reward of hovering.

    Reward of a step, with ``e`` the offset from the target in m: ``exp(-|e|) - k_v |v| - k_w |w|``, less
    ``crash`` on a terminal step; smoothing as in racing.
    """

    quad: QuadConfig = field(default_factory=QuadConfig)
    seconds: float = 4.0  # then the episode is truncated
    pos: float = 1.0  # m, half width of the first offset per axis
    vel: float = 1.0  # m/s, half width per axis
    tilt: float = math.radians(30.0)  # rad, half width per component of a rotation vector
    out_of_reach: float = 3.0  # m from the target: terminal
    speed_weight: float = 0.05
    rate_weight: float = 0.02
    crash: float = 5.0
    action_change: float = 0.02
    rate_command: float = 0.01

    def __post_init__(self) -> None:
        if not integrate.CTRL_DT <= self.seconds < math.inf:
            raise ValueError(
                f"HoverConfig.seconds is {self.seconds}; it must be at least {integrate.CTRL_DT}."
            )
        if not 0.0 <= math.sqrt(3.0) * self.pos < self.out_of_reach:
            raise ValueError(
                f"HoverConfig.pos is {self.pos} m; a first offset of that much on three axes must lie within "
                f"out_of_reach={self.out_of_reach} m: choose a smaller pos or a larger out_of_reach."
            )

    @property
    def max_steps(self) -> int:
        """The time limit."""
        return round(self.seconds / integrate.CTRL_DT)

    def summary(self, env: AbstractEnv[Any], episodes: Episodes) -> Summary:
        """Success is to stay and to end within ``TOLERANCE`` of the target."""
        del env
        final, is_lost = episodes.of_each("error_last"), np.asarray(episodes.is_terminal)
        return {
            "success_rate": float(np.mean(~is_lost & (final < TOLERANCE))),
            "crash_rate": float(np.mean(is_lost)),
            "error_mean": float(np.mean(episodes.of_each("error_mean"))),
            "error_last": float(np.mean(final)),
        }

    @property
    def reported_metrics(self) -> Sequence[ReportedMetric]:
        """Distance from the target and crashes."""
        return (
            ReportedMetric(name="error_mean", log="error", form="error {:.2f} m", better="min"),
            ReportedMetric(name="crash_rate", log="crash", sampled=True),
        )

    @property
    def columns(self) -> Sequence[Column]:
        """Distance from the target and crashes."""
        return (
            Column(name="episode/error_mean", title="error", form="{:.2f} m"),
            Column(name="episode/crash", title="crash", form="{:.0%}"),
        )

    def state_groups(self, target: Literal["observation", "privileged"]) -> Groups:
        """Both vectors begin alike."""
        del target
        return HOVER

    def snapshot(self) -> Callable[[Any], dict[str, Any]]:
        """Pose; there is one target."""
        return _snapshot

    def outcome(self, episodes: Episodes, index: int) -> dict[str, Any]:
        """No gates, no laps."""
        is_lost = bool(episodes.is_terminal[index])
        return {"gates": 0, "lap_times": (), "ending": "OUT_OF_BOX" if is_lost else "TIME_LIMIT"}

    def build(self) -> "HoverEnv":
        """The environment."""
        return HoverEnv(params=self.quad.build(), config=self)


def _snapshot(state: "HoverState") -> dict[str, Any]:
    quad = state.quad
    target = jnp.zeros((), jnp.int32)
    return {"pos_w": quad.pos_w, "vel_w": quad.vel_w, "quat": quad.quat, "target": target}


class HoverState(eqx.Module):
    """State of one environment; positions are relative to the target."""

    quad: QuadState
    action: Float[Array, " 4"]  # the last one, clipped; at the start that of hovering
    steps: Int[Array, ""]
    total_error: Scalar  # m, summed over the steps
    is_lost: Bool[Array, ""]


class HoverEnv(AbstractDroneEnv[HoverState]):
    """Come to rest at the origin with the nose along x.

    Observation, world axes: ``p/3, v/5, R e_x, R e_y, w/10`` (15).  Privileged: that, rotor speeds over the
    largest (4) and the last action (4).  Terminal: more than ``out_of_reach`` away, over 30 rad/s, or a
    non-finite state or action.  Truncated: ``seconds``.
    """

    params: QuadParams
    config: HoverConfig = eqx.field(static=True)

    def room(self) -> Float[np.ndarray, "2 3"]:
        """The flight volume."""
        half = self.config.out_of_reach
        return np.array([[-half] * 3, [half] * 3])

    def deployment(self) -> Deployment:
        """Its observation and its quadrotor."""
        return Deployment(layout="hover", vehicle=self.params)

    @property
    def spec(self) -> EnvSpec:
        """A 15-D state observation."""
        return EnvSpec(
            obs_shape=(OBS_SIZE,),
            obs_dtype=np.dtype(np.float32),
            privileged_size=PRIVILEGED_SIZE,
            action=Box((4,)),
            ctrl_dt=integrate.CTRL_DT,
            has_smoothing=True,
        )

    def reset(self, key: Key) -> tuple[HoverState, TimeStep]:
        """A random position, velocity and tilt."""
        unit = jr.uniform(key, (3, 3), minval=-1.0, maxval=1.0)
        quad = hover_state(self.params, self.config.pos * unit[0], jnp.zeros(()))
        tilted = quaternion.normalise(quaternion.exp(self.config.tilt * unit[2]))
        quad = eqx.tree_at(lambda q: (q.vel_w, q.quat), quad, (self.config.vel * unit[1], tilted))
        state = HoverState(
            quad=quad,
            action=bodyrate.hover_action(self.params),
            steps=jnp.zeros((), jnp.int32),
            total_error=jnp.zeros(()),
            is_lost=jnp.asarray(False),
        )
        nothing = Reward(nominal=jnp.zeros(()), smoothing=jnp.zeros(()))
        return state, self._timestep(state, nothing, is_first=True)

    def restart(self, state: HoverState, key: Key) -> tuple[HoverState, TimeStep]:
        """Same as ``reset``: nothing outlives an episode."""
        del state
        return self.reset(key)

    def step(self, state: HoverState, action: Float[Array, " 4"], key: Key) -> tuple[HoverState, TimeStep]:
        """One control period; deterministic."""
        del key
        is_sane = jnp.all(jnp.isfinite(action))
        action = bodyrate.clipped(action)
        flown = integrate.fly(self.params, state.quad, integrate.held(action))
        is_sane &= jnp.all(jnp.stack([jnp.all(jnp.abs(leaf) < 1e6) for leaf in jax.tree.leaves(flown)]))
        quad = jax.tree.map(lambda new, old: jnp.where(is_sane, new, old), flown, state.quad)
        error, rate = jnp.linalg.norm(quad.pos_w), jnp.linalg.norm(quad.omega_b)
        stepped = HoverState(
            quad=quad,
            action=action,
            steps=state.steps + 1,
            total_error=state.total_error + error,
            is_lost=~is_sane | (error > self.config.out_of_reach) | (rate > 30.0),
        )
        return stepped, self._timestep(stepped, self._reward(state, stepped), is_first=False)

    def episode_metrics(self, state: HoverState) -> EpisodeMetrics:
        """Mean distance from the target (m), distance now (m), crash (0 or 1), seconds flown."""
        return {
            "error_mean": state.total_error / jnp.maximum(state.steps, 1),
            "error_last": jnp.linalg.norm(state.quad.pos_w),
            "crash": state.is_lost.astype(jnp.float32),
            "seconds": state.steps.astype(jnp.float32) * integrate.CTRL_DT,
        }

    def drone(self, state: HoverState) -> DroneView:
        """The drone, and ``OUT_OF_REACH`` (or spinning, or not finite) or ``TIME_LIMIT`` as endings."""
        is_over = jnp.where(self._is_over(state), 2, 0)
        return DroneView(
            pos_w=state.quad.pos_w,
            vel_w=state.quad.vel_w,
            quat=state.quad.quat,
            target=jnp.zeros((), jnp.int32),
            ending=jnp.where(state.is_lost, 1, is_over),
            metrics={**self.episode_metrics(state), "crash": state.is_lost},
            endings=("FLYING", "OUT_OF_REACH", "TIME_LIMIT"),
        )

    def _is_over(self, state: HoverState) -> Bool[Array, ""]:
        return state.steps >= round(self.config.seconds / integrate.CTRL_DT)

    def _reward(self, before: HoverState, after: HoverState) -> Reward:
        config, quad = self.config, after.quad
        nominal = (
            jnp.exp(-jnp.linalg.norm(quad.pos_w))
            - config.speed_weight * jnp.linalg.norm(quad.vel_w)
            - config.rate_weight * jnp.linalg.norm(quad.omega_b)
            - jnp.where(after.is_lost, config.crash, 0.0)
        )
        smoothing = smoothing_reward(
            after.action, before.action, change=config.action_change, rate=config.rate_command
        )
        return Reward(nominal=nominal, smoothing=smoothing)

    def _timestep(self, state: HoverState, reward: Reward, *, is_first: bool) -> TimeStep:
        quad = state.quad
        rotation = quaternion.to_matrix(quad.quat)
        parts = (quad.pos_w / 3.0, quad.vel_w / 5.0, rotation[:, 0], rotation[:, 1], quad.omega_b / 10.0)
        obs = jnp.concatenate(parts)
        return TimeStep(
            obs=obs,
            privileged=jnp.concatenate((obs, quad.rotor_speed / self.params.rotor_speed_max, state.action)),
            reward=reward,
            is_first=jnp.asarray(is_first),
            is_last=state.is_lost | self._is_over(state),
            is_terminal=state.is_lost,
        )
