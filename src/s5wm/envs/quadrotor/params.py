"""Physical parameters of a quadrotor, and the sets that ship with the project."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

GRAVITY = 9.81
"""m/s^2, downwards along world z."""


class QuadParams(eqx.Module):
    """What the equations of motion need; every leaf may be randomised per episode.

    Rotor order FR, BL, BR, FL; body frame FLU.  The rotors stand on the corners of a rectangle about
    the centre of mass, which is what lets ``bodyrate.allocate`` invert the mixer by inspection.
    """

    mass: Float[Array, ""]  # kg
    inertia: Float[Array, " 3"]  # kg m^2, principal axes
    rotor_pos: Float[Array, "4 2"]  # m, x forward and y left of each rotor
    spin: Float[Array, " 4"]  # sign of the yaw torque of each rotor
    thrust_coeff: Float[Array, ""]  # k_f, N / (rad/s)^2
    torque_coeff: Float[Array, ""]  # kappa, Nm of yaw torque per N of thrust
    thrust_max: Float[Array, ""]  # N per rotor, the clip of the command
    rotor_speed_min: Float[Array, ""]  # rad/s
    rotor_speed_max: Float[Array, ""]  # rad/s
    motor_tau: Float[Array, ""]  # s
    rotor_inertia: Float[Array, ""]  # kg m^2
    drag: Float[Array, " 3"]  # N / (m/s), body axes
    lift: Float[Array, ""]  # k_h, N / (m/s)^2 of translational lift
    rate_max: Float[Array, " 3"]  # rad/s, full-scale body-rate command
    assumed_inertia: Float[Array, " 3"]  # kg m^2, J of the rate controller; nominally the inertia
    rate_gain: Float[Array, " 3"]  # 1/s, K of the rate controller
    rate_damping: Float[Array, " 3"]  # K_d of the rate controller
    wind_w: Float[Array, " 3"]  # m/s, velocity of the air, world axes

    @property
    def thrust_min(self) -> Float[Array, ""]:
        """Thrust of one idling rotor, N."""
        return self.thrust_coeff * self.rotor_speed_min**2

    @property
    def weight(self) -> Float[Array, ""]:
        """N."""
        return self.mass * GRAVITY

    @property
    def thrust_to_weight(self) -> Float[Array, ""]:
        """All four rotors at the clip, over the weight."""
        return 4.0 * self.thrust_max / self.weight


LATER: dict[str, Any] = {"since": "own drones"}
"""Metadata of fields that older configurations lack: they are read without a warning."""


@dataclass(frozen=True, kw_only=True)
class QuadConfig:
    """Choice of the quadrotor: a published one, with changed fields for one of your own.

    ``agil5`` is RPG's Agilicious 5-inch (TWR 4.61), ``kolibri`` RPG's 3-inch (TWR 6.49).
    ``thrust_to_weight`` sets another clip of the rotor thrust; None keeps the quadrotor's own.  Every other field
    replaces one of its constants (units as in ``QuadParams``); ``arm`` is how far a rotor is in front and to the left
    of the centre of mass.  A file of such fields is taken with ``--override task.quad=file:PATH``.
    """

    name: Literal["agil5", "kolibri"] = "agil5"
    thrust_to_weight: float | None = None
    mass: float | None = field(default=None, metadata=LATER)
    inertia: tuple[float, float, float] | None = field(default=None, metadata=LATER)
    arm: tuple[float, float] | None = field(default=None, metadata=LATER)
    thrust_coeff: float | None = field(default=None, metadata=LATER)
    torque_coeff: float | None = field(default=None, metadata=LATER)
    thrust_max: float | None = field(default=None, metadata=LATER)
    rotor_speed_min: float | None = field(default=None, metadata=LATER)
    rotor_speed_max: float | None = field(default=None, metadata=LATER)
    motor_tau: float | None = field(default=None, metadata=LATER)
    rotor_inertia: float | None = field(default=None, metadata=LATER)
    drag: tuple[float, float, float] | None = field(default=None, metadata=LATER)
    lift: float | None = field(default=None, metadata=LATER)
    rate_max: tuple[float, float, float] | None = field(default=None, metadata=LATER)
    rate_gain: tuple[float, float, float] | None = field(default=None, metadata=LATER)
    rate_damping: tuple[float, float, float] | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if self.name not in _SETS:
            raise ValueError(f"unknown quadrotor {self.name!r}: choose one of {sorted(_SETS)}")
        for name, value in self._own_constants.items():
            _check_constant(name, value)
        if self.thrust_to_weight is not None and self.thrust_max is not None:
            raise ValueError(
                "thrust_to_weight and thrust_max both set the clip of the rotor thrust: leave out one of them"
            )
        self._check_thrust()

    @property
    def is_published(self) -> bool:
        """Whether it is one of the sets that ship with the project, but for the clip of its thrust."""
        return not self._own_constants

    @property
    def _own_constants(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _CONSTANTS}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def _set(self) -> "_Set":
        return replace(_SETS[self.name], **self._own_constants)

    def _check_thrust(self) -> None:
        own = self._set
        weight = own.mass * GRAVITY
        limit = 4.0 * own.thrust_coeff * own.rotor_speed_max**2 / weight
        if own.rotor_speed_min >= own.rotor_speed_max:
            raise ValueError(
                f"rotor_speed_min is {own.rotor_speed_min} rad/s; it must be less than rotor_speed_max, "
                f"{own.rotor_speed_max} rad/s"
            )
        if self.thrust_to_weight is not None and not 1.0 < self.thrust_to_weight <= limit:
            raise ValueError(
                f"thrust_to_weight={self.thrust_to_weight} must lie in (1, {limit:.2f}], the upper end being what the "
                f"rotors of {self.name!r} give at full speed: choose a value inside or None"
            )
        ratio = 4.0 * own.thrust_max / weight
        if self.thrust_to_weight is None and not 1.0 < ratio <= limit * 1.001:
            raise ValueError(
                f"the thrust of all rotors, 4 x thrust_max {own.thrust_max} N, is {ratio:.2f} times the weight of "
                f"{own.mass} kg; it must lie in (1, {limit:.2f}], the upper end being what the rotors give at full "
                "speed: change mass, thrust_max, thrust_coeff or rotor_speed_max"
            )
        idle = 4.0 * own.thrust_coeff * own.rotor_speed_min**2
        if idle >= weight:  # and so below the thrust of all rotors, which exceeds the weight
            raise ValueError(
                f"rotor_speed_min is {own.rotor_speed_min} rad/s, at which the rotors give {idle:.3g} N; that must be "
                f"less than the weight of {own.mass} kg, {weight:.3g} N, or it can never descend: choose less than "
                f"{own.rotor_speed_min * math.sqrt(weight / idle):.0f} rad/s"
            )

    def build(self) -> QuadParams:
        """The parameters as float32 arrays."""
        own, ratio = self._set, self.thrust_to_weight
        thrust_max = own.thrust_max if ratio is None else ratio * own.mass * GRAVITY / 4.0
        x, y = own.arm
        return QuadParams(
            mass=_array(own.mass),
            inertia=_array(own.inertia),
            rotor_pos=_array(((x, -y), (-x, y), (-x, -y), (x, y))),
            spin=_array((-1.0, -1.0, 1.0, 1.0)),
            thrust_coeff=_array(own.thrust_coeff),
            torque_coeff=_array(own.torque_coeff),
            thrust_max=_array(thrust_max),
            rotor_speed_min=_array(own.rotor_speed_min),
            rotor_speed_max=_array(own.rotor_speed_max),
            motor_tau=_array(own.motor_tau),
            rotor_inertia=_array(own.rotor_inertia),
            drag=_array(own.drag),
            lift=_array(own.lift),
            rate_max=_array(own.rate_max),
            assumed_inertia=_array(own.inertia),
            rate_gain=_array(own.rate_gain),
            rate_damping=_array(own.rate_damping),
            wind_w=_array((0.0, 0.0, 0.0)),
        )


@dataclass(frozen=True, kw_only=True)
class _Set:
    """Published constants of one quadrotor; units as in ``QuadParams``."""

    mass: float
    inertia: tuple[float, float, float]
    arm: tuple[float, float]
    thrust_coeff: float
    torque_coeff: float
    thrust_max: float
    rotor_speed_min: float
    rotor_speed_max: float
    motor_tau: float
    rotor_inertia: float
    drag: tuple[float, float, float]
    lift: float
    rate_max: tuple[float, float, float]
    rate_gain: tuple[float, float, float]
    rate_damping: tuple[float, float, float]


def _array(value: object) -> Array:
    return jnp.asarray(value, dtype=jnp.float32)


# The gains of both sets were fitted to the step response of Betaflight 4.6 (test_bodyrate.py).
_AGIL5 = _Set(
    mass=0.752,
    inertia=(2.5e-3, 2.1e-3, 4.3e-3),
    arm=(0.075, 0.10),
    thrust_coeff=1.562522e-6,
    torque_coeff=0.022,
    thrust_max=8.5,
    rotor_speed_min=150.0,
    rotor_speed_max=2800.0,
    motor_tau=0.033,
    rotor_inertia=5.64e-6,
    drag=(0.26, 0.28, 0.42),
    lift=0.01,
    rate_max=(10.0, 10.0, 4.0),
    rate_gain=(125.0, 111.0, 13.3),
    rate_damping=(1.45, 1.33, -1.0),
)
_KOLIBRI = _Set(
    mass=0.220,
    inertia=(1.42e-4, 1.65e-4, 2.13e-4),
    arm=(0.041, 0.041),
    thrust_coeff=2.05e-7,
    torque_coeff=0.00804,
    thrust_max=3.5,
    rotor_speed_min=150.0,
    rotor_speed_max=4400.0,
    motor_tau=0.0245,
    rotor_inertia=2.65e-7,
    drag=(0.068, 0.046, 0.095),  # the published fit is per mass: 0.31, 0.21, 0.43 1/s
    lift=0.0,
    rate_max=(10.0, 10.0, 4.0),
    rate_gain=(94.0, 82.0, 15.3),
    rate_damping=(0.8, 0.71, -0.93),
)
_SETS = {"agil5": _AGIL5, "kolibri": _KOLIBRI}
_CONSTANTS = tuple(constant.name for constant in fields(_Set))
_ANY_SIGN = ("rate_damping",)
_MAY_BE_ZERO = ("rotor_speed_min", "rotor_inertia", "drag", "lift")


def _check_constant(name: str, value: float | tuple[float, ...]) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"quad.{name} is {value}; it must be finite")
    if name in _ANY_SIGN:
        return
    least, is_open = 0.0, name not in _MAY_BE_ZERO
    if min(numbers) < least or (is_open and min(numbers) == least):
        raise ValueError(f"quad.{name} is {value}; it must be {'positive' if is_open else 'at least 0'}")
