"""One episode of the race: state, transition and endings."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.envs.base import DroneView
from s5wm.envs.quadrotor import integrate
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.camera import CameraState
from s5wm.envs.racing.gates import Gap, GateEvent, distance_to_gate
from s5wm.envs.racing.laps import Ending, FlightRecord, LapClock, is_crash, last_lap, pass_first_gate
from s5wm.envs.racing.restarts import RestartBuffer
from s5wm.envs.racing.track import Track
from s5wm.types import Scalar

SPIN_LIMIT = 30.0
"""Body rate that ends an episode, rad/s."""

PROGRESS_STEP = 0.01
"""How much nearer than ever before counts as progress, m."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Lengths in control periods."""

    episode: int  # then it is truncated
    stall: int  # without progress, then it is terminal


class RacingState(eqx.Module):
    """State of one race; ``buffer`` and ``age`` outlive the episode."""

    quad: QuadState
    action: Float[Array, " 4"]  # the last one, clipped; at the start of a flight that of hovering
    target: Int[Array, ""]  # the gate to pass next
    steps: Int[Array, ""]  # flown in this episode
    from_start: Bool[Array, ""]  # the episode began at the start pose
    ending: Int[Array, ""]  # an Ending
    closest: Scalar  # least distance to this target so far, m
    stalled: Int[Array, ""]  # steps since then
    gates: Int[Array, ""]  # passed in this episode
    top_speed: Scalar  # m/s
    margin: Scalar  # what the tightest pass left between the drone and the rim, m; half the opening before the first
    clock: LapClock
    buffer: RestartBuffer
    age: Int[Array, ""]  # steps of this environment in all its episodes
    camera: CameraState | None = None  # None where the state itself is observed


class Flown(eqx.Module):
    """One step: the action, the next state, and crossings of gates."""

    action: Float[Array, " 4"]
    quad: QuadState
    event: GateEvent


def advance(track: Track, state: RacingState, flown: Flown, gap: Gap) -> RacingState:
    """The episode after a step, without its ending, what depends on it, and its camera."""
    quad, event = flown.quad, flown.event
    passed = event.passed
    target = jnp.where(passed, track.following(state.target), state.target)
    distance = distance_to_gate(track, target, quad.pos_w)
    is_nearer = passed | (distance < state.closest - PROGRESS_STEP)
    time = (state.steps + event.fraction) * integrate.CTRL_DT
    first = passed & (state.target == 0)
    left = gap.clearance(track.half_opening) - event.miss
    return RacingState(
        quad=quad,
        action=flown.action,
        target=target,
        steps=state.steps + 1,
        from_start=state.from_start,
        ending=state.ending,
        closest=jnp.where(is_nearer, distance, state.closest),
        stalled=jnp.where(is_nearer, 0, state.stalled + 1),
        gates=state.gates + passed,
        top_speed=jnp.maximum(state.top_speed, jnp.linalg.norm(quad.vel_w)),
        margin=jnp.where(passed, jnp.minimum(state.margin, left), state.margin),
        clock=pass_first_gate(state.clock, time, first, state.from_start),
        buffer=state.buffer,
        age=state.age + 1,
        camera=state.camera,
    )


def find_ending(
    track: Track, state: RacingState, event: GateEvent, is_sane: Bool[Array, ""], limits: Limits
) -> Int[Array, ""]:
    """Ending of the episode at this state; of several the first listed."""
    pos_w = state.quad.pos_w
    outside = jnp.any((pos_w < track.box_lo) | (pos_w > track.box_hi))
    reasons = (
        (~is_sane, Ending.NON_FINITE),
        (event.rim_hit, Ending.RIM_HIT),
        (event.wrong_way, Ending.WRONG_WAY),
        (pos_w[2] < track.box_lo[2], Ending.GROUND),
        (outside, Ending.OUT_OF_BOX),
        (jnp.linalg.norm(state.quad.omega_b) > SPIN_LIMIT, Ending.SPIN),
        (state.stalled >= limits.stall, Ending.STALLED),
        (state.steps >= limits.episode, Ending.TIME_LIMIT),
    )
    conditions, endings = zip(*reasons, strict=True)
    values = [jnp.asarray(ending, jnp.int32) for ending in endings]
    return jnp.select(list(conditions), values, jnp.asarray(Ending.FLYING, jnp.int32))


def drone_view(state: RacingState, record: FlightRecord) -> DroneView:
    """The drone and metrics of the episode so far; missing times are 0."""
    times = jnp.where(record.has_lap, record.lap_times, 0.0)
    return DroneView(
        pos_w=state.quad.pos_w,
        vel_w=state.quad.vel_w,
        quat=state.quad.quat,
        target=state.target,
        ending=state.ending,
        metrics={
            "gates": record.gates,
            "laps": record.laps,
            "lap_times": times,
            "lap_time_last": last_lap(state.clock),
            "crash": is_crash(state.ending),
            "top_speed": record.top_speed,
            "seconds": record.seconds,
            "from_start": record.from_start,
        },
        endings=tuple(ending.name for ending in Ending),
    )


def all_sane(quad: QuadState) -> Bool[Array, ""]:
    """Whether every number is one that can be squared and summed; NaN is not."""
    return jnp.all(jnp.stack([jnp.all(jnp.abs(leaf) < 1e6) for leaf in jax.tree.leaves(quad)]))
