"""Type and shape of arrays as text."""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def describe(leaf: Any) -> str:
    """Type and shape of an array, or of a shape struct."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def undescribed(text: str) -> jax.ShapeDtypeStruct:
    """The inverse, for arrays of plain numbers."""
    kind, _, shape = text.rstrip("]").partition("[")
    return jax.ShapeDtypeStruct(tuple(int(size) for size in shape.split(",") if size), np.dtype(kind))
