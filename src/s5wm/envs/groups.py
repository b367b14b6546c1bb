"""Named groups of a state vector, and their errors in physical units."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

MOST = 24
"""Numbers of a state without names that each have a group of their own."""


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
    points: int = 1  # equally many components of each; an error is the root mean square over the points
    # Of the vector to a goal: start of the goal's one-hot index in the privileged vector, which it ends.
    goal_from: int | None = None

    def error(self, predicted: Float[Array, "*b Y"], real: Float[Array, "*b Y"]) -> Float[Array, "*b"]:
        """Euclidean distance in ``unit`` (over several points its root mean square), or the angle in degrees."""
        left, right = predicted[..., self.start : self.stop], real[..., self.start : self.stop]
        if self.kind == "rotation":
            return angle_between(to_rotation(left), to_rotation(right))
        return self.distance_scale * jnp.linalg.norm(left - right, axis=-1)

    @property
    def distance_scale(self) -> float:
        """Of the Euclidean norm over all components, so that the root mean square over the points is in ``unit``."""
        return self.scale / self.points**0.5


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
    """Position, velocity, attitude and body rates where drone tasks keep them, at their scales."""
    return (
        Group(name="position", start=0, stop=3, scale=position, unit="m"),
        Group(name="velocity", start=3, stop=6, scale=velocity, unit="m/s"),
        Group(name="attitude", start=6, stop=12, unit="deg", kind="rotation"),
        Group(name="body_rates", start=12, stop=15, scale=rate, unit="rad/s"),
    )


def number_groups(width: int, names: tuple[str, ...] = ()) -> Groups:
    """A group for each number, by its name where it has one; those beyond ``MOST`` share one."""
    known = names or tuple(f"number_{index}" for index in range(width))
    numbers = tuple(
        Group(name=name, start=index, stop=index + 1) for index, name in enumerate(known[: min(width, MOST)])
    )
    return numbers if width <= MOST else (*numbers, Group(name="other_numbers", start=MOST, stop=width))
