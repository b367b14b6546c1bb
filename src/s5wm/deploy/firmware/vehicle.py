"""A quadrotor whose rate controller is the firmware: our rigid body, its gyro and accelerometer, the firmware's motors.

Each millisecond the firmware gets what the sensors measure at its beginning and answers with motor outputs, which hold
until its end.  Time is the simulation's: the firmware waits for it, so a flight is the same every time.

Before a flight a stand holds the drone at its start pose while a pilot's switch arms the firmware and the motors spin
up to the thrust of a hover.  The switch belongs to this test bench, not to the program that flies.
"""

import math
from collections import deque
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard
from s5wm.deploy.firmware.process import FirmwareError, FirmwareProcess, Outputs, Sensors
from s5wm.deploy.firmware.setup import STEP
from s5wm.deploy.firmware.sticks import IDLE, channels_of, nothing_heard, sticks_at_rest
from s5wm.deploy.runtime.hover import hover_action
from s5wm.deploy.runtime.plant import Body, Quadrotor

BOOT = 7.0
"""s with the arm switch off: the firmware arms no sooner than 5 s after its start, its gyro calibrated."""

ARMING = 0.5
"""s with the arm switch on and the throttle closed."""

SPIN_UP = 0.3
"""s at the thrust of a hover before the stand lets go."""

SILENT_STEPS = 20
"""Steps without a motor output after which the firmware counts as stuck."""

ORDER = [1, 2, 0, 3]
"""Betaflight's motors (rear right, front right, rear left, front left) in our order: front right, rear left, rear
right, front left."""


class FirmwareVehicle:
    """Flight of one vehicle with this firmware; ``Dynamics`` of the runtime's simulation."""

    def __init__(self, card: VehicleCard, process: FirmwareProcess, *, rc_delay: float = 0.0) -> None:
        """``rc_delay`` is the delay of the radio link in s."""
        self.card, self.process = card, process
        self._quad = Quadrotor(card)
        self._full = math.sqrt(card.thrust_max / card.thrust_coeff)
        self._link: deque[Float[np.ndarray, " C"]] = deque(
            [sticks_at_rest(armed=False)] * round(rc_delay / STEP), maxlen=round(rc_delay / STEP) + 1
        )
        self._silent = 0
        self.throttle: Float[np.ndarray, " 4"] = np.zeros(4)

    @property
    def is_armed(self) -> bool:
        """Whether the motors turn: they do at idle, and only when armed."""
        return bool((self.throttle > 0.5 * IDLE).all())

    def begin(self, body: Body) -> Body:
        """Arm on the stand, and let go in this state; raises ``FirmwareError`` where the firmware does not arm."""
        held = replace(body, vel_w=np.zeros(3), omega_b=np.zeros(3))
        standing = replace(held, rotor_speed=np.zeros(4))
        self._hold(standing, sticks_at_rest(armed=False), BOOT)
        self._hold(standing, sticks_at_rest(armed=True), ARMING)
        if not self.is_armed:
            raise FirmwareError(
                f"Betaflight has not armed: motor outputs {np.round(self.throttle, 3).tolist()}, {ARMING} s after the "
                "switch, throttle closed, no sensor moving"
            )
        self._hold(held, channels_of(self.card, hover_action(self.card), armed=True), SPIN_UP)
        return body

    def fly(self, body: Body, action: Float[np.ndarray, " 4"], seconds: float) -> Body:
        """The state after a command was held for so long."""
        return self.run(body, channels_of(self.card, action, armed=True), seconds)

    def lost(self, body: Body, seconds: float) -> Body:
        """The state after a receiver heard nothing for so long."""
        return self.run(body, nothing_heard(), seconds)

    def run(self, body: Body, channels: Float[np.ndarray, " C"], seconds: float) -> Body:
        """The state after a receiver got these pulses for so long."""
        for _ in range(round(seconds / STEP)):
            outputs = self._step(body, channels)
            target = self._full * outputs.throttle[ORDER]
            body = self._quad.spin(body, target, STEP)
        return body

    def _hold(self, body: Body, channels: Float[np.ndarray, " C"], seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self._step(body, channels)

    def _step(self, body: Body, channels: Float[np.ndarray, " C"]) -> Outputs:
        self._link.append(channels)
        outputs = self.process.step(self._measured(body), self._link[0], STEP)
        self._silent = 0 if outputs.updates else self._silent + 1
        if self._silent > SILENT_STEPS and outputs.clock > BOOT:
            raise FirmwareError(
                f"Betaflight has sent no motor output for {self._silent} ms, {outputs.clock:.1f} s after its start"
            )
        self.throttle = outputs.throttle
        return outputs

    def _measured(self, body: Body) -> Sensors:
        return Sensors(body.omega_b, self._quad.specific_force(body), body.quat, body.vel_w, body.pos_w)
