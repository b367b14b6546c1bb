"""The fixed-rate loop on a monotonic clock."""

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from s5wm.deploy.runtime.pilot import Control, Decision, Mode, Pilot
from s5wm.deploy.runtime.state import VehicleState

SPIN = 3e-4
"""s before a period at which waiting polls instead of sleeping: a sleep ends up to about that late."""


@runtime_checkable
class Target(Protocol):
    """A vehicle, real or not."""

    def read(self) -> VehicleState | None:
        """The newest estimate."""
        ...

    def send(self, action: Float[np.ndarray, " A"] | None) -> None:
        """A command in ``[-1, 1]``; None in a period in which nothing is sent."""
        ...

    def between(self, until: float) -> None:
        """Called before the wait for the next period, for work that is not urgent."""
        ...

    @property
    def control(self) -> Control:
        """Who flies the vehicle."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the flight has ended."""
        ...


class Clock:
    """The system's monotonic clock, which no change of the date moves."""

    def now(self) -> float:
        """Time in s."""
        return time.monotonic()

    def wait_until(self, moment: float) -> None:
        """Sleep, then poll the clock at the end."""
        while (left := moment - time.monotonic()) > 0.0:
            if left > SPIN:
                time.sleep(left - SPIN)


class SimulatedClock(Clock):
    """A simulated clock that only waiting advances: deterministic, and as fast as the machine allows."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Time in s."""
        return self._now

    def wait_until(self, moment: float) -> None:
        """At once."""
        self._now = max(self._now, moment)


@dataclass(frozen=True)
class Period:
    """What happened in one period."""

    time: float  # s since the start, when it began by plan
    wake: float  # s that it really began later
    latency: float  # s from its beginning by plan to the command
    mode: Mode
    problem: str | None
    action: Float[np.ndarray, " A"] | None  # as sent
    state: VehicleState | None
    target: int
    skipped: int  # whole periods that went by before this one


@dataclass(eq=False)
class Loop:
    """Calls the pilot once a period; missed periods are counted and skipped.

    ``is_live``: a vehicle follows the commands.  Its time counts from the first period in which we fly it, and at the
    end, or after an error, it gets a level hover until somebody else flies it.
    """

    pilot: Pilot
    target: Target
    clock: Clock
    period: float  # s
    on_period: Callable[[Period], None] = field(default=lambda _: None)
    is_stopped: Callable[[], bool] = field(default=lambda: False)
    is_live: bool = False
    log: Callable[[str], None] = field(default=lambda _: None)

    def run(self, seconds: float) -> None:
        """Run until the time is over, somebody stops it or the flight has ended, without garbage collection.

        An error of the policy is raised here: at once, or when nobody needs a hover any more.
        """
        collects = gc.isenabled()
        gc.disable()
        try:
            self._run(seconds)
        finally:
            if collects:
                gc.enable()

    def _run(self, seconds: float) -> None:
        start, number, count = self.clock.now(), 0, round(seconds / self.period)
        first = None if self.is_live else 0  # period of the flight
        is_ending, failure = False, None
        while not self.target.is_over:
            if not is_ending and (self.is_stopped() or (first is not None and number - first >= count)):
                is_ending = True
                self._end("the flight is over")
            if is_ending and not self._must_hover():
                break
            begin = start + number * self.period
            self.clock.wait_until(begin)
            skipped = max(0, int((self.clock.now() - begin) / self.period))
            number += skipped
            try:
                self.on_period(self._once(start + number * self.period, start, skipped))
            except Exception as error:
                if is_ending or not self._must_hover():
                    raise error from failure
                is_ending, failure = True, error
                self._end(f"{type(error).__name__}: {error}")
            if first is None and self.target.control is Control.OURS:
                first = number
            number += 1
            self.target.between(start + number * self.period)
        if failure is not None:
            raise failure

    def _must_hover(self) -> bool:
        return self.is_live and self.target.control is Control.OURS

    def _end(self, why: str) -> None:
        """Hand a vehicle that we fly over to the level hover."""
        self.pilot.hand_over()
        if self._must_hover():
            with suppress(OSError):  # the terminal may be gone
                self.log(f"{why}: hovering until somebody takes the vehicle; Ctrl-C ends that at once")

    def _once(self, begin: float, start: float, skipped: int) -> Period:
        wake, state = self.clock.now() - begin, self.target.read()
        if (control := self.target.control) is Control.OURS:
            decision = self.pilot.decide(state, self.clock.now(), skipped)
        else:
            decision = self.pilot.wait(state, self.clock.now(), control)
        if self.clock.now() - begin > self.pilot.limits.deadline and decision.mode is Mode.POLICY:
            decision = self.pilot.missed(state, self.clock.now())
        self._command(decision)
        return Period(
            time=begin - start,
            wake=wake,
            latency=self.clock.now() - begin,
            mode=decision.mode,
            problem=decision.problem,
            action=decision.action,
            state=state,
            target=self.pilot.target,
            skipped=skipped,
        )

    def _command(self, decision: Decision) -> None:
        self.target.send(decision.action)
        self.pilot.flown(decision)
