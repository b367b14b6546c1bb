"""From actions in ``[-1, 1]`` to what a radio receiver gives the firmware, and the settings that make it linear.

ACRO with rates of type ACTUAL whose centre sensitivity is their maximum: body rate = stick times maximum.
"""

import math

import numpy as np
from jaxtyping import Float

from s5wm.deploy.card import VehicleCard

MIN_CHECK = 1010  # us, throttle below which it counts as closed
MAX_PULSE = 2000  # us
MIDDLE, HALF = 1500.0, 500.0  # us
IDLE = 0.03  # of the motor's range, when armed
ARM_LOW, ARM_HIGH = 1000.0, 1900.0  # us on AUX1
NO_PULSE = 0.0  # what a receiver of pulses gives when it hears nothing
CHANNELS = 16


def rates_of(vehicle: VehicleCard) -> tuple[int, int, int]:
    """Maximal roll, pitch and yaw rate in tens of degrees a second, the firmware's unit: none below the vehicle's."""
    roll, pitch, yaw = (math.ceil(math.degrees(rate) / 10.0 - 1e-9) for rate in vehicle.rate_max)
    return roll, pitch, yaw


def settings_of(vehicle: VehicleCard) -> tuple[str, ...]:
    """Lines for the firmware's command line."""
    roll, pitch, yaw = rates_of(vehicle)
    axes = {"roll": roll, "pitch": pitch, "yaw": yaw}
    return (
        "set rates_type = ACTUAL",
        *(f"set {axis}_{name} = {rate}" for axis, rate in axes.items() for name in ("rc_rate", "srate")),
        *(f"set {axis}_expo = 0" for axis in axes),
        f"set min_check = {MIN_CHECK}",
        "set small_angle = 180",
        "set rc_smoothing = OFF",
        *(f"set f_{axis} = 0" for axis in axes),
        "set tpa_rate = 0",
        "set tpa_low_rate = 0",
        "set runaway_takeoff_prevention = OFF",
        # The simulated gyro has no noise that the filters, which delay it, are there for.
        "set gyro_lpf1_static_hz = 0",
        "set gyro_lpf1_dyn_min_hz = 0",
        "set gyro_lpf2_static_hz = 0",
        f"set motor_idle = {round(1e4 * IDLE)}",
        "set motor_pwm_protocol = PWM",
        "aux 0 0 0 1700 2100 0 0",
    )


def throttle_pulse(vehicle: VehicleCard, collective: float) -> float:
    """Pulse in us for a collective thrust in N: thrust goes with the square of the motor's output."""
    output = math.sqrt(max(collective, 0.0) / (4.0 * vehicle.thrust_max))
    share = min(max((output - IDLE) / (1.0 - IDLE), 0.0), 1.0)
    return MIN_CHECK + share * (MAX_PULSE - MIN_CHECK)


def channels_of(
    vehicle: VehicleCard, action: Float[np.ndarray, " 4"], *, armed: bool
) -> Float[np.ndarray, " C"]:
    """AETR and the arm switch, in us, for an action."""
    action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
    full = np.radians(10.0 * np.array(rates_of(vehicle)))
    p, q, r = action[1:] * np.array(vehicle.rate_max) / full
    channels = np.full(CHANNELS, ARM_LOW)
    channels[0], channels[1], channels[3] = MIDDLE + HALF * p, MIDDLE + HALF * q, MIDDLE - HALF * r
    channels[2] = throttle_pulse(vehicle, 2.0 * vehicle.thrust_max * (action[0] + 1.0))
    channels[4] = ARM_HIGH if armed else ARM_LOW
    return channels


def sticks_at_rest(*, armed: bool) -> Float[np.ndarray, " C"]:
    """Throttle closed, sticks centred."""
    channels = np.full(CHANNELS, ARM_LOW)
    channels[[0, 1, 3]] = MIDDLE
    channels[4] = ARM_HIGH if armed else ARM_LOW
    return channels


def nothing_heard() -> Float[np.ndarray, " C"]:
    """What comes out of a receiver that has lost its transmitter."""
    return np.full(CHANNELS, NO_PULSE)
