"""The curriculum of a race: what moves from an initial to a final value over the first steps of each environment."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from s5wm.types import Scalar


def scheduled(curriculum_steps: int, initial: float, final: float, age: Int[Array, ""]) -> Scalar:
    """The value at an environment's step ``age``: it moves linearly over ``curriculum_steps``."""
    if curriculum_steps == 0:
        return jnp.asarray(final)
    return initial + (final - initial) * jnp.minimum(age / curriculum_steps, 1.0)


def check_curriculum(race: Any) -> None:
    """Raise ``ValueError`` if a ``RacingConfig``, whose module imports this one, has an impossible curriculum."""
    for name in ("p_start_initial", "p_start_final"):
        value = getattr(race, name)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"RacingConfig.{name} is {value}; it is a probability: choose it in [0, 1].")
    for name in ("opening_initial", "opening_final"):
        value, half = getattr(race, name), race.track.half_opening
        if not race.drone_radius < half * value < math.inf:
            raise ValueError(
                f"RacingConfig.{name} is {value}; half the opening, {half:g} m times it, must exceed the "
                f"drone's radius of {race.drone_radius} m: choose 1 for the gate as built, more to help."
            )
    if race.curriculum_steps < 0:
        raise ValueError(
            f"RacingConfig.curriculum_steps is {race.curriculum_steps}; it must be at least 0: "
            "give 0 for no curriculum."
        )
