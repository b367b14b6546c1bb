"""Golden trace: observations of a policy in its own task and its actions; exported files are compared with it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from s5wm.deploy.inputs import NAMES, Array, Inputs


@dataclass(frozen=True, eq=False)
class Golden:
    """Consecutive steps of a flight, or of several one after the other."""

    inputs: Inputs  # each [T, ...]
    is_first: Bool[np.ndarray, " T"]  # an episode begins here: the memory before it is zero
    action: Float[np.ndarray, "T A"]

    @property
    def obs(self) -> Array:
        """The first input: vectors ``[T, O]`` or images ``[T, h, w, c]``."""
        return self.inputs[0]

    def first(self, steps: int) -> "Golden":
        """The first steps."""
        inputs = tuple(array[:steps] for array in self.inputs)
        return Golden(inputs, self.is_first[:steps], self.action[:steps])

    def save(self, path: Path) -> None:
        """As ``.npz``: the inputs by their names, ``is_first`` and ``action``."""
        named = dict(zip(NAMES, self.inputs, strict=False))
        np.savez_compressed(path, is_first=self.is_first, action=self.action, **named)

    @staticmethod
    def load(path: Path) -> "Golden":
        """From ``save``."""
        with np.load(path, allow_pickle=False) as data:
            inputs = tuple(data[name] for name in NAMES if name in data)
            return Golden(inputs, data["is_first"], data["action"])
