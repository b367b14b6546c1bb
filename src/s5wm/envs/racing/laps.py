"""Lap times, and the record of a flight."""

from enum import IntEnum

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.types import OptionalMetric, Scalar

MAX_LAPS = 16
"""Lap times kept per episode: the last ones, in a ring."""

NO_TIME = -1.0
"""Marks a missing time.  Not NaN, which ``JAX_DEBUG_NANS`` would report as an error of the user."""


class Ending(IntEnum):
    """Ending of an episode; all between ``FLYING`` and ``TIME_LIMIT`` are terminal: crashes."""

    FLYING = 0
    RIM_HIT = 1
    WRONG_WAY = 2
    GROUND = 3
    OUT_OF_BOX = 4
    SPIN = 5
    NON_FINITE = 6
    STALLED = 7
    TIME_LIMIT = 8


def is_crash(ending: Int[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether an ending is terminal."""
    return (ending > Ending.FLYING) & (ending < Ending.TIME_LIMIT)


class LapClock(eqx.Module):
    """Times of an episode, s from its beginning; ``NO_TIME`` where there is none yet.

    A lap is the time between two successive passes of the first gate (index 0), so lap 1 begins at the
    first pass and a lap that begins elsewhere does not count.  ``launch_lap`` is the time from rest at
    the start pose to the end of lap 1 (the second pass of the first gate); it exists only in episodes from
    the start pose.  Laps from the second on are flying laps.
    """

    laps: Int[Array, ""]  # completed
    times: Float[Array, " 16"]  # of lap k in place (k - 1) mod 16
    began: Scalar  # when the first gate was last passed
    launch_lap: Scalar


def started_clock() -> LapClock:
    """The clock of an episode that begins."""
    none = jnp.full((), NO_TIME, jnp.float32)
    times = jnp.full(MAX_LAPS, NO_TIME, jnp.float32)
    return LapClock(laps=jnp.zeros((), jnp.int32), times=times, began=none, launch_lap=none)


def pass_first_gate(
    clock: LapClock, time: Scalar, passed: Bool[Array, ""], from_start: Bool[Array, ""]
) -> LapClock:
    """The clock after a step that passed the first gate at ``time``, or did not."""
    closed = passed & (clock.began >= 0.0)
    is_slot = (jnp.arange(MAX_LAPS) == clock.laps % MAX_LAPS) & closed
    is_launch = closed & from_start & (clock.laps == 0)
    return LapClock(
        laps=clock.laps + closed,
        times=jnp.where(is_slot, time - clock.began, clock.times),
        began=jnp.where(passed, time, clock.began),
        launch_lap=jnp.where(is_launch, time, clock.launch_lap),
    )


def last_lap(clock: LapClock) -> OptionalMetric:
    """Time of the last completed lap, s."""
    return OptionalMetric(value=clock.times[(clock.laps - 1) % MAX_LAPS], exists=clock.laps > 0)


class FlightRecord(eqx.Module):
    """Record of an episode, complete once ``ending`` is not ``FLYING``."""

    ending: Int[Array, "*b"]  # an Ending
    from_start: Bool[Array, "*b"]
    gates: Int[Array, "*b"]  # passed
    laps: Int[Array, "*b"]  # completed
    lap_times: Float[Array, "*b 16"]  # s, those where ``has_lap``
    launch_lap: Float[Array, "*b"]  # s, where ``has_launch_lap``
    seconds: Float[Array, "*b"]  # flown
    top_speed: Float[Array, "*b"]  # m/s
    margin: Float[Array, "*b"]  # m from the rim at the tightest pass; means nothing before the first one

    @property
    def crash(self) -> Bool[Array, "*b"]:
        """Whether the flight ended in a crash."""
        return is_crash(self.ending)

    @property
    def has_launch_lap(self) -> Bool[Array, "*b"]:
        """Whether the episode began at rest at the start pose and completed a lap."""
        return self.launch_lap >= 0.0

    @property
    def has_lap(self) -> Bool[Array, "*b 16"]:
        """Which entries of ``lap_times`` are those of a completed lap."""
        return self._slot < self.laps[..., None]

    @property
    def has_flying_lap(self) -> Bool[Array, "*b 16"]:
        """Which of them are of lap two or later."""
        is_first_lap = (self._slot == 0) & (self.laps <= MAX_LAPS)[..., None]
        return self.has_lap & ~is_first_lap

    @property
    def _slot(self) -> Int[Array, "..."]:
        return jnp.arange(MAX_LAPS).reshape(*(1,) * self.laps.ndim, MAX_LAPS)
