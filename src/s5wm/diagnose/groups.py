"""What the numbers of a state vector mean, and errors of it in physical units."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from s5wm.envs.racing.observation import (
    POSITION_SCALE,
    RATE_SCALE,
    VELOCITY_SCALE,
)
from s5wm.types import EnvSpec


@dataclass(frozen=True, kw_only=True)
class Group:
    """Components ``start:stop`` of a state vector; times ``scale`` they are in ``unit``.

    ``rotation`` groups hold the first two columns of an attitude matrix; their error is an angle.
    """

    name: str
    start: int
    stop: int
    scale: float = 1.0
    unit: str = "1"
    kind: Literal["vector", "rotation"] = "vector"

    def error(self, predicted: Float[Array, "*b Y"], real: Float[Array, "*b Y"]) -> Float[Array, "*b"]:
        """Euclidean distance in ``unit``, or the angle between the two attitudes in degrees."""
        left, right = predicted[..., self.start : self.stop], real[..., self.start : self.stop]
        if self.kind == "rotation":
            return angle_between(to_rotation(left), to_rotation(right))
        return self.scale * jnp.linalg.norm(left - right, axis=-1)


Groups = tuple[Group, ...]


def to_rotation(columns: Float[Array, "*b 6"]) -> Float[Array, "*b 3 3"]:
    """The rotation nearest in the sense of Gram-Schmidt to two decoded columns, as rows e_x, e_y, e_z."""
    first, second = columns[..., :3], columns[..., 3:]
    e_x = _unit(first)
    e_y = _unit(second - (second * e_x).sum(-1, keepdims=True) * e_x)
    return jnp.stack([e_x, e_y, jnp.cross(e_x, e_y)], axis=-2)


def angle_between(left: Float[Array, "*b 3 3"], right: Float[Array, "*b 3 3"]) -> Float[Array, "*b"]:
    """Degrees; ``|R - R'|_F^2 = 8 sin^2(angle / 2)``, which is exact near 0 where an arccos is not."""
    distance = jnp.sqrt(jnp.square(left - right).sum((-2, -1)))
    return jnp.rad2deg(2.0 * jnp.arcsin(jnp.clip(distance / jnp.sqrt(8.0), 0.0, 1.0)))


def _unit(vector: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    return vector / jnp.maximum(jnp.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def flight_groups(position: float, velocity: float, rate: float) -> Groups:
    """Position, velocity, attitude and body rates where both tasks keep them, at their scales."""
    return (
        Group(name="position", start=0, stop=3, scale=position, unit="m"),
        Group(name="velocity", start=3, stop=6, scale=velocity, unit="m/s"),
        Group(name="attitude", start=6, stop=12, unit="deg", kind="rotation"),
        Group(name="body_rates", start=12, stop=15, scale=rate, unit="rad/s"),
    )


RACING = (
    *flight_groups(POSITION_SCALE, VELOCITY_SCALE, RATE_SCALE),
    Group(name="gate", start=15, stop=18, scale=POSITION_SCALE, unit="m"),  # of the target, relative
    Group(name="next_gate", start=18, stop=21, scale=POSITION_SCALE, unit="m"),  # relative to the target
)
"""Racing in layout B, and the privileged vector of racing, which begins with it."""

RACING_A = (
    Group(name="velocity", start=0, stop=3, scale=VELOCITY_SCALE, unit="m/s"),
    Group(name="gate", start=12, stop=24, scale=POSITION_SCALE, unit="m"),  # the four corners together
)
"""Racing in layout A; its attitude is by rows and has no error here."""

RACING_C = (
    Group(name="velocity", start=0, stop=3, scale=VELOCITY_SCALE, unit="m/s"),  # in body axes, as all of it
    Group(name="up", start=3, stop=6),
    Group(name="body_rates", start=6, stop=9, scale=RATE_SCALE, unit="rad/s"),
    Group(name="gate", start=9, stop=12, scale=POSITION_SCALE, unit="m"),  # of the target, relative
    Group(name="next_gate", start=15, stop=18, scale=POSITION_SCALE, unit="m"),  # relative to the drone
)
"""Racing in layout C; its attitude is the direction of up, and its position that of the target."""

HOVER = flight_groups(3.0, 5.0, 10.0)
"""``hover``, observation and privileged vector."""


def groups_of(spec: EnvSpec, width: int) -> Groups:
    """The groups of an environment's state vector of ``width`` numbers; one unscaled group if unknown."""
    known = {"race": RACING, "hover": HOVER}
    return known.get(spec.kind, (Group(name="state", start=0, stop=width),))
