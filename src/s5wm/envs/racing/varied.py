"""A race with randomised quadrotor, air, gates, sensors and delays.

What is drawn at the beginning of an episode holds until its end.  Every range is an array, so that one compiled
program flies all of them.
"""

from dataclasses import fields, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from s5wm.envs.base import AbstractDroneEnv, Deployment, DroneView
from s5wm.envs.quadrotor import bodyrate, quaternion
from s5wm.envs.quadrotor.params import QuadParams
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.episode import RacingState
from s5wm.envs.racing.observation import observe
from s5wm.envs.racing.reward import racing_smoothing
from s5wm.envs.racing.task import RacingEnv
from s5wm.envs.racing.variation import LONGEST_DELAY, VariationConfig
from s5wm.runs.flights import TrackGeometry
from s5wm.types import EnvSpec, EpisodeMetrics, Key, Scalar, TimeStep


class VariationRanges(eqx.Module):
    """``VariationConfig`` as arrays."""

    mass: Scalar
    inertia: Scalar
    thrust: Scalar
    battery: Scalar
    drag: Scalar
    motor: Scalar
    wind: Scalar
    gates: Scalar
    map_error: Scalar
    position_noise: Scalar
    velocity_noise: Scalar
    attitude_noise: Scalar
    start_pos: Scalar
    start_vel: Scalar
    start_tilt: Scalar
    delay_min: Scalar
    delay_max: Scalar


def ranges_of(config: VariationConfig) -> VariationRanges:
    """The ranges of a configuration."""
    return VariationRanges(
        **{field.name: jnp.asarray(getattr(config, field.name)) for field in fields(config)}
    )


class Variation(eqx.Module):
    """Random parameters of one episode."""

    params: QuadParams  # the quadrotor and its air as they are
    gate_shift: Float[Array, "G 3"]  # m, of where gates are seen
    map_shift: Float[Array, "G 3"]  # m, between where they are seen and where they are
    delay: Int[Array, ""]  # control periods


class VariedState(eqx.Module):
    """State of one race, parameters of its episode, and the last actions, the newest first.

    ``inner.action`` is the action flown, ``actions[0]`` the one commanded: they differ by the delay.
    """

    inner: RacingState
    variation: Variation
    actions: Float[Array, "K 4"]


class VariedRace(AbstractDroneEnv[VariedState]):
    """``RacingEnv`` with a variation drawn for every episode; a state layout is observed, with noise."""

    race: RacingEnv
    ranges: VariationRanges

    def __check_init__(self) -> None:
        if self.race.config.camera is not None:
            raise ValueError(
                "a varied race observes states; this one has a camera: choose a task without images"
            )

    @property
    def spec(self) -> EnvSpec:
        """That of the race."""
        return self.race.spec

    def reset(self, key: Key) -> tuple[VariedState, TimeStep]:
        """First episode."""
        k_draw, k_race, k_start = jr.split(key, 3)
        variation = draw(self.race, self.ranges, k_draw)
        return self._begun(variation, self.race_as_it_is(variation).reset(k_race), k_start)

    def restart(self, state: VariedState, key: Key) -> tuple[VariedState, TimeStep]:
        """Next episode, with a variation of its own."""
        k_draw, k_race, k_start = jr.split(key, 3)
        variation = draw(self.race, self.ranges, k_draw)
        return self._begun(variation, self.race_as_it_is(variation).restart(state.inner, k_race), k_start)

    def step(self, state: VariedState, action: Float[Array, " 4"], key: Key) -> tuple[VariedState, TimeStep]:
        """One control period under the action of ``delay`` periods before.

        The smoothing reward, and the last action in observations, are those of the action commanded now.
        """
        k_step, k_noise = jr.split(key)
        race = self.race_as_it_is(state.variation)
        actions = jnp.concatenate([action[None], state.actions[:-1]])
        inner, timestep = race.step(state.inner, actions[state.variation.delay], k_step)
        after = VariedState(inner, state.variation, actions)
        now, before = bodyrate.clipped(action), bodyrate.clipped(state.actions[0])
        reward = replace(timestep.reward, smoothing=racing_smoothing(race.config.reward, now, before))
        privileged = race.privileged_of(replace(inner, action=now))
        return after, replace(timestep, obs=self._seen(after, k_noise), privileged=privileged, reward=reward)

    def episode_metrics(self, state: VariedState) -> EpisodeMetrics:
        """Those of the race."""
        return self.race.episode_metrics(state.inner)

    def drone(self, state: VariedState) -> DroneView:
        """The drone."""
        return self.race.drone(state.inner)

    def track_geometry(self) -> TrackGeometry:
        """The gates where the track has them, not where those of an episode are."""
        return self.race.track_geometry()

    def room(self) -> Float[np.ndarray, "1 3"]:
        """The start."""
        return self.race.room()

    def deployment(self) -> Deployment:
        """That of the nominal race."""
        return self.race.deployment()

    def race_as_it_is(self, variation: Variation) -> RacingEnv:
        """The race with the episode's quadrotor and gates."""
        shift = variation.gate_shift + variation.map_shift
        track = replace(self.race.track, gate_pos=self.race.track.gate_pos + shift)
        return replace(self.race, params=variation.params, track=track)

    def _begun(
        self, variation: Variation, begun: tuple[RacingState, TimeStep], key: Key
    ) -> tuple[VariedState, TimeStep]:
        inner, timestep = begun
        k_start, k_noise = jr.split(key)
        moved = _moved(inner.quad, self.ranges, k_start)
        inside = jnp.clip(moved.pos_w, self.race.track.box_lo + 0.2, self.race.track.box_hi - 0.2)
        quad = jax.tree.map(
            lambda new, old: jnp.where(inner.from_start, new, old), replace(moved, pos_w=inside), inner.quad
        )
        race = self.race_as_it_is(variation)
        inner = race.placed(inner, quad)
        state = VariedState(inner, variation, jnp.broadcast_to(inner.action, (LONGEST_DELAY + 1, 4)))
        first = replace(timestep, obs=self._seen(state, k_noise), privileged=race.privileged_of(inner))
        return state, first

    def _seen(self, state: VariedState, key: Key) -> Float[Array, " O"]:
        """The observation of a noisy state, with the gates where the map has them."""
        unit = jr.normal(key, (3, 3))
        ranges, quad = self.ranges, state.inner.quad
        tilt = quaternion.exp(ranges.attitude_noise * unit[2])
        noisy = replace(
            quad,
            pos_w=quad.pos_w + ranges.position_noise * unit[0],
            vel_w=quad.vel_w + ranges.velocity_noise * unit[1],
            quat=quaternion.normalise(quaternion.multiply(quad.quat, tilt)),
        )
        track = self.race.track
        shown = replace(track, gate_pos=track.gate_pos + state.variation.gate_shift)
        view = replace(self.race.view_of(state.inner), quad=noisy, action=bodyrate.clipped(state.actions[0]))
        return observe(self.race.config.observation, shown, view)


def draw(race: RacingEnv, ranges: VariationRanges, key: Key) -> Variation:
    """One variation of a race.

    The rate controller, tuned for the nominal inertia and thrust, knows nothing of the true ones.  What it commands is
    carried out by rotors that are ``stronger``, so its torques are: all of them on what it assumes of the inertia.  Its
    damping of roll and pitch stands for the measured angular acceleration, which is less where the body is
    ``heavier``; on yaw it continues the rotors' torque of now, whatever that is.
    """
    k_scalars, k_axes, k_wind, k_gates, k_delay = jr.split(key, 5)
    mass, thrust, battery, motor = jr.uniform(k_scalars, (4,), minval=-1.0, maxval=1.0)
    inertia, drag = jr.uniform(k_axes, (2, 3), minval=-1.0, maxval=1.0)
    size, angle = jr.uniform(k_wind, (2,))
    params, track = race.params, race.track
    wind = ranges.wind * size * jnp.stack([jnp.cos(2 * jnp.pi * angle), jnp.sin(2 * jnp.pi * angle), 0.0])
    full = 1.0 - ranges.battery * 0.5 * (battery + 1.0)
    heavier = 1.0 + ranges.inertia * inertia
    stronger = (1.0 + ranges.thrust * thrust) * full
    varied = replace(
        params,
        mass=params.mass * (1.0 + ranges.mass * mass),
        inertia=params.inertia * heavier,
        assumed_inertia=params.assumed_inertia * stronger,
        rate_damping=params.rate_damping * jnp.where(jnp.arange(3) < 2, stronger / heavier, 1.0),
        thrust_coeff=params.thrust_coeff * (1.0 + ranges.thrust * thrust),
        thrust_max=params.thrust_max * stronger,
        drag=params.drag * (1.0 + ranges.drag * drag),
        motor_tau=params.motor_tau * (1.0 + ranges.motor * motor),
        wind_w=wind,
    )
    # What is one structure moves as one.
    shifts = jr.uniform(k_gates, (2, *track.gate_pos.shape), minval=-1.0, maxval=1.0)[:, track.structure]
    periods = jr.randint(
        k_delay, (), ranges.delay_min.astype(jnp.int32), ranges.delay_max.astype(jnp.int32) + 1
    )
    return Variation(varied, ranges.gates * shifts[0], ranges.map_error * shifts[1], periods)


def _moved(quad: QuadState, ranges: VariationRanges, key: Key) -> QuadState:
    unit = jr.uniform(key, (3, 3), minval=-1.0, maxval=1.0)
    tilted = quaternion.multiply(quad.quat, quaternion.exp(ranges.start_tilt * unit[2]))
    return replace(
        quad,
        pos_w=quad.pos_w + ranges.start_pos * unit[0],
        vel_w=quad.vel_w + ranges.start_vel * unit[1],
        quat=quaternion.normalise(tilted),
    )
