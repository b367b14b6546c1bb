"""Ranges of randomisation of a race, sampled in each episode (``racing.varied``)."""

import math
from dataclasses import dataclass, fields

LONGEST_DELAY = 4
"""Control periods."""


@dataclass(frozen=True, kw_only=True)
class VariationConfig:
    """Largest deviation of each quantity from its nominal value; uniform, 0: none."""

    mass: float = 0.0  # share
    inertia: float = 0.0  # share, each axis on its own
    thrust: float = 0.0  # share of the thrust that a rotor speed gives
    battery: float = 0.0  # share of the largest thrust that may be missing
    drag: float = 0.0  # share, each axis on its own
    motor: float = 0.0  # share of the motors' time constant
    wind: float = 0.0  # m/s, horizontal, from any direction, steady
    gates: float = 0.0  # m, each gate on each axis
    map_error: float = 0.0  # m, the same of gates that the policy sees where they ought to be
    position_noise: float = 0.0  # m, standard deviation of every step
    velocity_noise: float = 0.0  # m/s
    attitude_noise: float = 0.0  # rad
    start_pos: float = 0.0  # m, besides the noise of the task
    start_vel: float = 0.0  # m/s
    start_tilt: float = 0.0  # rad
    delay_min: float = 0.0  # control periods by which actions come late, whole ones, from this ...
    delay_max: float = 0.0  # ... to this

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"VariationConfig.{field.name} is {value}; it must be at least 0")
        for name in ("mass", "inertia", "thrust", "battery", "motor"):
            if getattr(self, name) >= 1.0:
                raise ValueError(
                    f"VariationConfig.{name} is {getattr(self, name)}; a share must be less than 1"
                )
        if not self.delay_min <= self.delay_max <= LONGEST_DELAY:
            raise ValueError(
                f"VariationConfig has delay_min {self.delay_min} and delay_max {self.delay_max}; it needs "
                f"min <= max <= {LONGEST_DELAY} periods"
            )

    def scaled(self, factor: float) -> "VariationConfig":
        """All ranges times a factor; delays in whole periods."""
        values = {field.name: factor * getattr(self, field.name) for field in fields(self)}
        whole = {name: float(round(values[name])) for name in ("delay_min", "delay_max")}
        return VariationConfig(**(values | whole))
