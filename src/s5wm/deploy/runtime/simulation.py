"""A simulated drone on its track, as a target: the rules of ``envs.racing``, in NumPy."""

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
    """Starts hovering at the start pose; time passes between the periods of the loop."""

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
        self._start = self._now = clock.now()
        self._command = self._before = hover_action(vehicle)
        self._lap_began: float | None = None

    def read(self) -> VehicleState:
        """The exact state now."""
        return self.body.seen(self._clock.now())

    def send(self, action: Float[np.ndarray, " 4"] | None) -> None:
        """Hold this command until the next one."""
        self._before, self._command = self._command, MOTORS_IDLE if action is None else action

    def between(self, until: float) -> None:
        """Simulate until then."""
        seconds, began = until - self._now, self._now
        self._now = until
        if not self._obeys or self.is_over or seconds <= 0.0:
            return
        before, late = self.body, min(self.gates.card.action_delay, seconds)
        if late > 0.0:
            self.body = self._quad.fly(self.body, self._before, late)
        self.body = self._quad.fly(self.body, self._command, seconds - late) if seconds > late else self.body
        self._judge(before, began, seconds)

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
            self._pass(began - self._start + crossing.fraction * seconds)

    def _pass(self, time: float) -> None:
        """A lap is the time between two passes of the first gate."""
        if self.target == 0:
            if self._lap_began is not None:
                self.lap_times.append(time - self._lap_began)
            self._lap_began = time
        self.target = self.gates.following(self.target)
        self.passed += 1
