"""What a policy reads in one step: one array, or an image and the vector of numbers beside it.  No JAX.

Everywhere in an export these are a tuple of arrays in the order of ``NAMES``.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Shaped

from s5wm.errors import ObservationError

NAMES = ("obs", "vector")
"""Inputs by position: their names in ONNX, C and ``golden.npz``.  The vector exists beside an image only."""

Array: TypeAlias = Shaped[np.ndarray, "..."]
Inputs: TypeAlias = tuple[Array, ...]


def check_sizes(inputs: Inputs, sizes: Mapping[str, int]) -> None:
    """Raises ``ObservationError`` for another number of inputs, or for one of another size."""
    given = [array.size for array in inputs]
    if given != [*sizes.values()]:
        expected = " and ".join(f"{name} ({size} numbers)" for name, size in sizes.items())
        raise ObservationError(
            f"this policy reads {expected}, and was given {' and '.join(map(str, given)) or 'no'} numbers"
        )


def check_finite(inputs: Inputs) -> None:
    """Raises ``ObservationError`` for a number that is not finite, with its input and index."""
    for name, array in zip(NAMES, inputs, strict=False):
        if not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0]
            raise ObservationError(
                f"the observation is {array[tuple(place)]} at index {', '.join(map(str, place))} of {name}"
            )


def overflow(inputs: Inputs) -> ObservationError:
    """The error for finite inputs that lead to a result that is not."""
    largest = max(float(np.abs(array).max()) for array in inputs)
    return ObservationError(f"the policy overflows on an observation as large as {largest:g}")
