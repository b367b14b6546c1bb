"""The race: a quadrotor, a track and a reward make an environment."""

import math
from dataclasses import dataclass, field, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from s5wm.actions import Box
from s5wm.envs.base import DroneView, EnvSpec
from s5wm.envs.quadrotor import bodyrate, integrate
from s5wm.envs.quadrotor.params import LATER, QuadConfig, QuadParams
from s5wm.envs.quadrotor.state import QuadState, hover_state
from s5wm.envs.racing import camera, laps
from s5wm.envs.racing.camera import CameraConfig, CameraState, Image
from s5wm.envs.racing.checktrack import check_track
from s5wm.envs.racing.curriculum import check_curriculum, scheduled
from s5wm.envs.racing.episode import Flown, Limits, RacingState, advance, all_sane, drone_view, find_ending
from s5wm.envs.racing.evaluation import AbstractRace
from s5wm.envs.racing.gates import Gap, GateEvent, cross_gates, distance_to_gate
from s5wm.envs.racing.laps import Ending, FlightRecord
from s5wm.envs.racing.observation import (
    OBS_SIZES,
    Layout,
    PrivilegedLayout,
    View,
    observe,
    privileged,
    privileged_size,
)
from s5wm.envs.racing.restarts import Moment, ResetNoise, RestartBuffer, draw_restart, empty_buffer, remember
from s5wm.envs.racing.reward import Arrival, RewardConfig, racing_reward
from s5wm.envs.racing.scene import Scene, build_scene
from s5wm.envs.racing.shown import AbstractRaceEnv
from s5wm.envs.racing.track import FileTrackConfig, SplitSConfig, Track, TrackConfig
from s5wm.envs.racing.variation import VariationConfig
from s5wm.types import EpisodeMetrics, Key, Obs, Reward, TimeStep


@dataclass(frozen=True, kw_only=True)
class RacingConfig(AbstractRace):
    """A race for training; ``eval_config()`` is the same race under the rules of a test.

    Opening and share of start poses move linearly from their initial to their final values over the
    first ``curriculum_steps`` steps of each environment, and the penalty ``reward.view`` from 0 to its own:
    whoever cannot fly yet would learn from it to crash soon.
    """

    track: TrackConfig = field(default_factory=SplitSConfig)
    quad: QuadConfig = field(default_factory=QuadConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    noise: ResetNoise = field(default_factory=ResetNoise)
    observation: Layout = "B"
    privileged_layout: PrivilegedLayout = field(
        default="B", metadata={"since": "privileged layout"}
    )  # what the privileged vector begins with
    camera: CameraConfig | None = None  # instead of that layout, images are observed
    episode_seconds: float = 10.0  # then the episode is truncated
    stall_seconds: float = 3.0  # without coming nearer to the target than ever before: terminal
    action_delay: float = 0.0  # s from observation to the action's effect, up to one control period
    drone_radius: float = 0.15  # m
    opening_initial: float = 1.0  # factor on the gates' half opening
    opening_final: float = 1.0
    p_start_initial: float = 0.3  # share of episodes from the start pose
    p_start_final: float = 0.3
    curriculum_steps: int = 0  # 0: the final values from the first step on
    variation: VariationConfig | None = field(
        default=None, metadata=LATER
    )  # drawn per episode (racing.varied)

    def __post_init__(self) -> None:
        for name in ("episode_seconds", "stall_seconds"):
            value = getattr(self, name)
            if not integrate.CTRL_DT <= value < math.inf:
                raise ValueError(
                    f"RacingConfig.{name} is {value} s; it must be at least one step, {integrate.CTRL_DT} s."
                )
        if self.observation not in ("A", "B", "C"):
            raise ValueError(
                f"RacingConfig.observation is {self.observation!r}; choose layout 'A', 'B' or 'C'."
            )
        if self.privileged_layout not in ("B", "C"):
            raise ValueError(
                f"RacingConfig.privileged_layout is {self.privileged_layout!r}; choose 'B' (world axes) or "
                "'C' (body axes)."
            )
        if not 0.0 <= self.action_delay <= integrate.CTRL_DT:
            raise ValueError(
                f"RacingConfig.action_delay is {self.action_delay}; it must lie in [0, {integrate.CTRL_DT}] s, "
                "at most one control period: use 0.02 for the nominal delay."
            )
        half = self.track.half_opening
        if not 0.0 <= self.drone_radius < half:
            raise ValueError(
                f"RacingConfig.drone_radius is {self.drone_radius} m; it must lie in [0, {half:g}), "
                "else the drone fits through no gate."
            )
        if isinstance(self.track, FileTrackConfig):
            check_track(self.track)
        check_curriculum(self)

    @property
    def limits(self) -> Limits:
        """Time limit and stall limit in control periods."""
        dt = integrate.CTRL_DT
        return Limits(episode=round(self.episode_seconds / dt), stall=round(self.stall_seconds / dt))

    @property
    def delay_substeps(self) -> int:
        """The action delay in integration steps."""
        return round(self.action_delay / integrate.CTRL_DT * integrate.SUBSTEPS)

    def eval_config(self) -> "RacingConfig":
        """The evaluation form: no variation, start pose only, true gates, 20 s, 3 s without progress."""
        return replace(
            self,
            episode_seconds=20.0,
            stall_seconds=3.0,
            opening_initial=1.0,
            opening_final=1.0,
            p_start_initial=1.0,
            p_start_final=1.0,
            curriculum_steps=0,
            variation=None,
        )

    def build(self) -> "RacingEnv":
        """The environment."""
        track, eye = self.track.build(), self.camera
        scene = None if eye is None else build_scene(track, equal_colours=eye.equal_colours)
        return RacingEnv(params=self.quad.build(), track=track, config=self, scene=scene)


class RacingEnv(AbstractRaceEnv[RacingState]):
    """Fly through the gates of a track in order, lap after lap (racing rules in ``RacingConfig``).

    The action is collective thrust and body rates in ``[-1, 1]`` (``quadrotor.bodyrate.scale``), held for
    one control period of 20 ms.  Terminal: a rim hit, passing the target backwards, the ground, leaving the
    flight volume, more than 30 rad/s, a non-finite state or action, no progress for ``stall_seconds``.
    Truncated: the time limit.  Every number that leaves is finite.
    """

    params: QuadParams
    track: Track
    config: RacingConfig = eqx.field(static=True)
    scene: Scene | None = None  # what the camera sees, where there is one

    @property
    def spec(self) -> EnvSpec:
        """A state observation in the layout chosen, or the camera's image and what comes with it."""
        eye = self.config.camera
        return EnvSpec(
            obs_shape=(OBS_SIZES[self.config.observation],) if eye is None else eye.shape,
            obs_dtype=np.dtype(np.float32 if eye is None else np.uint8),
            privileged_size=privileged_size(self.config.privileged_layout, self.track),
            action=Box((4,)),
            ctrl_dt=integrate.CTRL_DT,
            has_smoothing=True,
            vector_size=0 if eye is None else eye.vector_size,
        )

    def reset(self, key: Key) -> tuple[RacingState, TimeStep]:
        """First episode, with untouched restart buffers."""
        return self._begin(empty_buffer(self.track, self.params), jnp.zeros((), jnp.int32), key)

    def restart(self, state: RacingState, key: Key) -> tuple[RacingState, TimeStep]:
        """Next episode; restart buffers and age are kept."""
        return self._begin(state.buffer, state.age, key)

    def step(self, state: RacingState, action: Float[Array, " 4"], key: Key) -> tuple[RacingState, TimeStep]:
        """One control period.  The race itself is deterministic: ``key`` is for the noise of the image."""
        is_sane = jnp.all(jnp.isfinite(action))
        action = bodyrate.clipped(action)
        commands = integrate.delayed(state.action, action, self.config.delay_substeps)
        flown = integrate.fly(self.params, state.quad, commands)
        is_sane &= all_sane(flown)
        # After a blow-up the last sane state stays, so that no NaN reaches reward or observation.
        quad = jax.tree.map(lambda new, old: jnp.where(is_sane, new, old), flown, state.quad)
        gap = self._gap(state.age)
        event = cross_gates(self.track, state.target, state.quad.pos_w, quad.pos_w, gap)
        stepped = advance(self.track, state, Flown(action=action, quad=quad, event=event), gap)
        ending = find_ending(self.track, stepped, event, is_sane, self.config.limits)
        # Nobody is to begin where a flight has crashed.
        is_good = event.passed & ~laps.is_crash(ending)
        buffer = remember(state.buffer, state.target, Moment(quad=quad, action=action), is_good)
        stepped = replace(stepped, ending=ending, buffer=buffer)
        if stepped.camera is not None:
            stepped = replace(stepped, camera=camera.follow(stepped.camera, quad, key))
        return stepped, self._timestep(stepped, self._reward(state, stepped, event), is_first=False)

    def picture(self, state: RacingState) -> Image | None:
        """What the camera shows at a state; None without a camera."""
        if self.config.camera is None:
            return None
        assert self.scene is not None and state.camera is not None, "both come with the camera"
        return camera.take_picture(self.config.camera, self.scene, state.camera)

    def episode_metrics(self, state: RacingState) -> EpisodeMetrics:
        """Gates, laps, crash, last lap time (s, where there is one), top speed, seconds, begun at the start pose, and
        the opening of its gates (a factor).
        """
        record = self.flight_record(state)
        return {
            "gates": record.gates.astype(jnp.float32),
            "laps": record.laps.astype(jnp.float32),
            "crash": record.crash.astype(jnp.float32),
            "lap_time_last": laps.last_lap(state.clock),
            "top_speed": record.top_speed,
            "seconds": record.seconds,
            "from_start": record.from_start.astype(jnp.float32),
            "opening": self._gap(state.age).opening,
        }

    def flight_record(self, state: RacingState) -> FlightRecord:
        """The episode so far, for evaluation."""
        return FlightRecord(
            ending=state.ending,
            from_start=state.from_start,
            gates=state.gates,
            laps=state.clock.laps,
            lap_times=state.clock.times,
            launch_lap=state.clock.launch_lap,
            seconds=state.steps.astype(jnp.float32) * integrate.CTRL_DT,
            top_speed=state.top_speed,
            margin=state.margin,
        )

    def drone(self, state: RacingState) -> DroneView:
        """The drone; gates, laps, lap times (s, 0 where there is none), top speed, and the names of ``Ending``."""
        return drone_view(state, self.flight_record(state))

    def _begin(self, buffer: RestartBuffer, age: Int[Array, ""], key: Key) -> tuple[RacingState, TimeStep]:
        config, zero = self.config, jnp.zeros((), jnp.int32)
        start = Moment(
            quad=hover_state(self.params, self.track.start_pos, self.track.start_yaw),
            action=bodyrate.hover_action(self.params),
        )
        p_start = scheduled(self.config.curriculum_steps, config.p_start_initial, config.p_start_final, age)
        begun = draw_restart(self.track, start, buffer, config.noise, p_start, key)
        eye: CameraState | None = None
        if config.camera is not None:
            # Folded in rather than split off, so that a camera does not change where episodes begin.
            eye = camera.begin(config.camera, begun.quad, jr.fold_in(key, camera.KEY))
        state = RacingState(
            quad=begun.quad,
            action=begun.action,
            target=begun.target,
            steps=zero,
            from_start=begun.from_start,
            ending=jnp.asarray(Ending.FLYING, jnp.int32),
            closest=distance_to_gate(self.track, begun.target, begun.quad.pos_w),
            stalled=zero,
            gates=zero,
            top_speed=jnp.linalg.norm(begun.quad.vel_w),
            margin=self.track.half_opening,
            clock=laps.started_clock(),
            buffer=buffer,
            age=age,
            camera=eye,
        )
        nothing = Reward(nominal=jnp.zeros(()), smoothing=jnp.zeros(()))
        return state, self._timestep(state, nothing, is_first=True)

    def _reward(self, before: RacingState, after: RacingState, event: GateEvent) -> Reward:
        # Both distances are to the target of the arrival: a switch of target makes no jump.
        was = distance_to_gate(self.track, after.target, before.quad.pos_w)
        now = distance_to_gate(self.track, after.target, after.quad.pos_w)
        half = self._gap(before.age).opening * self.track.half_opening
        aside = camera.off_axis(self.config.camera, after.quad, self.track.gate_pos[after.target])
        arrival = Arrival(
            progress=was - now,
            passed=event.passed,
            miss=event.miss / half,
            rate_xy=(after.quad.omega_b / self.params.rate_max)[:2],
            speed=jnp.linalg.norm(after.quad.vel_w),
            off_axis=scheduled(self.config.curriculum_steps, 0.0, 1.0, before.age) * aside,
            crashed=laps.is_crash(after.ending),
        )
        return racing_reward(self.config.reward, arrival, after.action, before.action)

    def placed(self, state: RacingState, quad: QuadState) -> RacingState:
        """The state at the start of an episode with the drone elsewhere."""
        closest = distance_to_gate(self.track, state.target, quad.pos_w)
        return replace(state, quad=quad, closest=closest, top_speed=jnp.linalg.norm(quad.vel_w))

    def view_of(self, state: RacingState) -> View:
        """What an observation of the state is made of."""
        clearance = self._gap(state.age).clearance(self.track.half_opening)
        return View(quad=state.quad, target=state.target, action=state.action, clearance=clearance)

    def privileged_of(self, state: RacingState) -> Float[Array, " X"]:
        """The privileged vector of a state."""
        layout, largest = self.config.privileged_layout, self.params.rotor_speed_max
        return privileged(layout, self.track, self.view_of(state), largest)

    def _timestep(self, state: RacingState, reward: Reward, *, is_first: bool) -> TimeStep:
        return TimeStep(
            obs=self._observation(state),
            privileged=self.privileged_of(state),
            reward=reward,
            is_first=jnp.asarray(is_first),
            is_last=state.ending != Ending.FLYING,
            is_terminal=laps.is_crash(state.ending),
        )

    def _observation(self, state: RacingState) -> Obs:
        eye, picture = self.config.camera, self.picture(state)
        if eye is None or picture is None:
            return observe(self.config.observation, self.track, self.view_of(state))
        return camera.beside_imu(picture, state.quad, state.action) if eye.imu else picture

    def _gap(self, age: Int[Array, ""]) -> Gap:
        opening = scheduled(
            self.config.curriculum_steps, self.config.opening_initial, self.config.opening_final, age
        )
        return Gap(opening=opening, radius=jnp.asarray(self.config.drone_radius))
