"""Selects the command: of the policy, the last one, a level hover, or none.

    wait       another controller flies: a level hover, nothing without an attitude; the policy at its beginning
    policy     a good estimate, an action in time
    hold       a bad estimate or a missed deadline: the last command again
    hover      ``Limits.hold`` bad periods in a row, or the end of the flight: a level hover
    open_loop  the same without an attitude: hover thrust and zero rates
    silent     no attitude for ``Limits.silence`` s: nothing is sent, and the flight controller's failsafe takes over

Hover and silence last until the vehicle is disarmed, whoever flies meanwhile.  A failsafe of the flight controller
leads to the hover too: the policy never starts again by itself.

Arming is not here, nor is cutting the motors: both belong to the flight controller.
"""

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import FlightCard, Layout, TrackCard, VehicleCard
from s5wm.deploy.runtime.engines import Engine
from s5wm.deploy.runtime.gates import Gates
from s5wm.deploy.runtime.guard import InputCheck, Limits, OutputLimit, attitude_problem
from s5wm.deploy.runtime.hover import hover_action, level_hover
from s5wm.deploy.runtime.observation import check_layout, observe
from s5wm.deploy.runtime.plant import Quadrotor
from s5wm.deploy.runtime.state import VehicleState
from s5wm.errors import ConfigError, ObservationError

Action = Float[np.ndarray, " A"]


class Mode(enum.StrEnum):
    """Source of the command."""

    WAIT = "wait"
    POLICY = "policy"
    HOLD = "hold"
    HOVER = "hover"
    OPEN_LOOP = "open_loop"
    SILENT = "silent"


class Control(enum.Enum):
    """Who flies the vehicle, as far as it has said so."""

    OURS = enum.auto()  # armed, in the mode that follows our commands
    ANOTHER = enum.auto()  # armed in another mode, or nothing is known yet
    FAILSAFE = enum.auto()  # the flight controller, because something has failed
    DISARMED = enum.auto()


@dataclass(frozen=True)
class Decision:
    """Decision of one period; ``action`` is None to send nothing, ``problem`` is why it is not the policy's."""

    mode: Mode
    action: Action | None
    problem: str | None


def check_card(card: FlightCard) -> tuple[VehicleCard, TrackCard]:
    """The vehicle and track of a policy that the runtime can fly; raises ``ConfigError`` for any other."""
    if card.vehicle is None or card.track is None:
        raise ConfigError(
            f"the policy of {card.origin.run} was trained on {card.origin.task or 'a task of its own'}, and s5wm "
            "fly flies quadrotors through gates alone: call policy.onnx or policy.c from a program of your own, as "
            "README.md of the export shows"
        )
    check_layout(card.observation.layout)
    return card.vehicle, card.track


class Pilot:
    """Flies one vehicle through the gates of its card; raises ``ConfigError`` where ``check_card`` does."""

    def __init__(self, card: FlightCard, engine: Engine, limits: Limits) -> None:
        self._vehicle, track = check_card(card)
        self.gates = Gates(track)
        self.limits = limits
        self.target = 0
        self.passed = 0
        self._layout: Layout = card.observation.layout
        self._engine, self._limit = engine, OutputLimit(card)
        self._check = InputCheck(card, limits)
        self._slot = next((slot for slot in card.memory if slot.name == "prev_action"), None)
        self._bad = 0
        self._mode = Mode.POLICY
        self._blind_since: float | None = None
        self.last = hover_action(self._vehicle)

    def warm_up(self) -> None:
        """Warm up: run a period without effect, so that the first one is as quick as the others."""
        track = self.gates.card
        state = Quadrotor(self._vehicle).at_rest(track.start_pos, track.start_yaw).seen(0.0)
        level_hover(self._vehicle, state)
        self.gates.passes(0, state.pos_w, state.pos_w)
        self._engine.step(observe(self._layout, self.gates, state, 0))
        self._engine.reset()

    def wait(self, state: VehicleState | None, now: float, control: Control = Control.ANOTHER) -> Decision:
        """Command while another controller flies; it resets the policy."""
        if control is Control.DISARMED:
            self._mode = Mode.POLICY
        if control is Control.FAILSAFE:
            self.hand_over()
        self._engine.reset()
        self._bad, self._blind_since, self.target = 0, None, 0
        self.last = hover_action(self._vehicle)
        self._check.last = None
        problem = self._check.problem(state, now)
        self._check.last = None  # a flight begins without one
        if self._mode is Mode.SILENT:
            return Decision(Mode.SILENT, None, problem)
        if state is None or attitude_problem(state, now, self.limits) is not None:
            return Decision(Mode.WAIT, None, problem)
        mode = Mode.WAIT if self._mode is Mode.POLICY else self._mode
        return Decision(mode, level_hover(self._vehicle, state), problem)

    def hand_over(self) -> None:
        """End the policy's flight: a level hover until the vehicle is disarmed."""
        if self._mode is Mode.POLICY:
            self._mode = Mode.HOVER

    def decide(self, state: VehicleState | None, now: float, skipped: int = 0) -> Decision:
        """Command at ``now`` for the newest estimate, after so many periods without a command."""
        self._watch_attitude(state, now)
        if self._mode is not Mode.POLICY:
            return self._fall_back(state, now, None)
        self._bad += skipped
        if self._bad >= self.limits.hold:
            self._mode = Mode.HOVER
            return self._fall_back(state, now, "skipped")
        before = self._check.last
        problem = self._check.problem(state, now)
        if problem is None:
            assert state is not None, "an estimate that is missing is a problem"
            self._follow(before, state)
            try:
                action = self._engine.step(observe(self._layout, self.gates, state, self.target))
            except ObservationError:
                problem = "overflow"
            else:
                return Decision(Mode.POLICY, self._limit(action, self.last), None)
        return self._bad_period(state, now, problem)

    def missed(self, state: VehicleState | None, now: float) -> Decision:
        """Command in place of a decision that came too late."""
        if self._mode is not Mode.POLICY:
            return self._fall_back(state, now, "deadline")
        return self._bad_period(state, now, "deadline")

    def flown(self, decision: Decision) -> None:
        """Record the command, also in the policy's memory if it is not the policy's."""
        if decision.mode is Mode.POLICY:
            self._bad = 0
        if decision.action is not None:
            self.last = decision.action
            if self._slot is not None and decision.mode is not Mode.WAIT:
                start = self._slot.start
                self._engine.memory[start : start + self._slot.size] = decision.action

    def _follow(self, before: VehicleState | None, state: VehicleState) -> None:
        """Update the next gate by the segment since the last good estimate."""
        if before is None:
            return
        if self.gates.passes(self.target, before.pos_w, state.pos_w):
            self.target = self.gates.following(self.target)
            self.passed += 1

    def _bad_period(self, state: VehicleState | None, now: float, problem: str) -> Decision:
        self._bad += 1
        if self._bad < self.limits.hold:
            return Decision(Mode.HOLD, self.last, problem)
        self._mode = Mode.HOVER
        return self._fall_back(state, now, problem)

    def _watch_attitude(self, state: VehicleState | None, now: float) -> None:
        if state is not None and attitude_problem(state, now, self.limits) is None:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = now

    def _fall_back(self, state: VehicleState | None, now: float, problem: str | None) -> Decision:
        blind = None if self._blind_since is None else now - self._blind_since
        if blind is not None and blind >= self.limits.silence:
            self._mode = Mode.SILENT
        problem = problem or (None if blind is None else "blind")
        if self._mode is Mode.SILENT:
            return Decision(Mode.SILENT, None, problem)
        if blind is not None:
            return Decision(Mode.OPEN_LOOP, hover_action(self._vehicle), problem)
        assert state is not None, "an attitude comes with an estimate"
        return Decision(Mode.HOVER, level_hover(self._vehicle, state), problem)
