"""A simulated drone on its track, as a target: the rules of ``envs.racing``, in NumPy."""

import math
from collections import deque
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import TrackCard, VehicleCard
from s5wm.deploy.runtime.gates import Gates
from s5wm.deploy.runtime.hover import hover_action
from s5wm.deploy.runtime.loop import Clock
from s5wm.deploy.runtime.pilot import Control
from s5wm.deploy.runtime.plant import Body, Quadrotor
from s5wm.deploy.runtime.state import VehicleState

SPIN_LIMIT = 30.0
"""rad/s that end a flight."""

MOTORS_IDLE = np.array([-1.0, 0.0, 0.0, 0.0], np.float32)
"""Command of a flight controller that gets none: no thrust."""

PIECE = 0.02
"""s of flight that is taken as straight to judge it."""

INSTANT = 1e-9
"""s below which a time is taken as over: sums of periods round."""

FLYING = "FLYING"


@runtime_checkable
class Dynamics(Protocol):
    """Physics of a vehicle with its rate controller, ours or somebody else's."""

    def begin(self, body: Body) -> Body:
        """Prepare to fly from this state, nearly at rest; returns the initial state."""
        ...

    def fly(self, body: Body, action: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after a command in ``[-1, 1]`` was held for so long."""
        ...


class Simulation:
    """Starts hovering at the start pose, when it is read first.

    A command flies ``action_delay`` after it was sent, the one before until then.
    """

    def __init__(
        self,
        vehicle: VehicleCard,
        track: TrackCard,
        clock: Clock,
        *,
        obeys: bool = True,
        dynamics: Dynamics | None = None,
        start: Body | None = None,
    ) -> None:
        """``obeys=False`` leaves the drone where it is, whatever is commanded: a dry run.

        ``dynamics`` are those of the runtime, ``start`` is a hover at the start pose, unless given.
        """
        self.gates = Gates(track)
        self.ending = FLYING
        self.target = self.passed = 0
        self.lap_times: list[float] = []
        own = Quadrotor(vehicle)
        self._quad: Dynamics = dynamics or own
        self.body: Body = self._quad.begin(start or own.at_rest(track.start_pos, track.start_yaw))
        self._clock, self._obeys = clock, obeys
        self._now: float | None = None  # time of ``body``; it begins when it is read first
        self._command = hover_action(vehicle)  # in force
        self._sent: deque[tuple[float, Float[np.ndarray, " 4"]]] = deque()  # to come, and from when on
        self._lap_began: float | None = None

    def read(self) -> VehicleState:
        """The exact state now."""
        now = self._clock.now()
        self.between(now)
        return self.body.seen(now)

    def send(self, action: Float[np.ndarray, " 4"] | None) -> None:
        """Hold this command until the next one."""
        if self._obeys:
            from_when = self._clock.now() + self.gates.card.action_delay
            self._sent.append((from_when, MOTORS_IDLE if action is None else action))

    def between(self, until: float) -> None:
        """Simulate until then."""
        now = until if self._now is None else self._now
        pieces = math.ceil((until - now) / PIECE - INSTANT)
        for piece in range(pieces if self._obeys else 0):
            if self.is_over:
                break
            self._fly(now + (until - now) * piece / pieces, now + (until - now) * (piece + 1) / pieces)
        self._now = max(now, until)

    def _fly(self, now: float, until: float) -> None:
        began, before = now, self.body
        while True:
            while self._sent and self._sent[0][0] - now <= INSTANT:
                self._command = self._sent.popleft()[1]
            if until - now <= INSTANT:
                break
            end = min(until, self._sent[0][0]) if self._sent else until
            self.body = self._quad.fly(self.body, self._command, end - now)
            now = end
        self._judge(before, began, until - began)

    @property
    def control(self) -> Control:
        """Ours, always."""
        return Control.OURS

    @property
    def is_over(self) -> bool:
        """Whether it has crashed."""
        return self.ending != FLYING

    def _judge(self, before: Body, began: float, seconds: float) -> None:
        card, pos = self.gates.card, self.body.pos_w
        crossing = self.gates.cross(self.target, before.pos_w, pos)
        outside = (pos < np.array(card.box_lo)).any() or (pos > np.array(card.box_hi)).any()
        endings = {
            "NON_FINITE": not np.isfinite(pos).all(),
            "RIM_HIT": crossing.rim_hit,
            "WRONG_WAY": crossing.wrong_way,
            "GROUND": pos[2] < card.box_lo[2],
            "OUT_OF_BOX": outside,
            "SPIN": float(np.linalg.norm(self.body.omega_b)) > SPIN_LIMIT,
        }
        self.ending = next((name for name, holds in endings.items() if holds), FLYING)
        if crossing.passed:
            self._pass(began + crossing.fraction * seconds)

    def _pass(self, time: float) -> None:
        """A lap is the time between two passes of the first gate."""
        if self.target == 0:
            if self._lap_began is not None:
                self.lap_times.append(time - self._lap_began)
            self._lap_began = time
        self.target = self.gates.following(self.target)
        self.passed += 1
