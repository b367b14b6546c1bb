"""Golden trace: observations of a policy in its own task and its actions; exported files are compared with it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped


@dataclass(frozen=True, eq=False)
class Golden:
    """Consecutive steps of a flight, or of several one after the other."""

    obs: Shaped[np.ndarray, "T ..."]
    is_first: Bool[np.ndarray, " T"]  # an episode begins here: the memory before it is zero
    action: Float[np.ndarray, "T A"]

    def first(self, steps: int) -> "Golden":
        """The first steps."""
        return Golden(self.obs[:steps], self.is_first[:steps], self.action[:steps])

    def save(self, path: Path) -> None:
        """As ``.npz``."""
        np.savez_compressed(path, obs=self.obs, is_first=self.is_first, action=self.action)

    @staticmethod
    def load(path: Path) -> "Golden":
        """From ``save``."""
        with np.load(path, allow_pickle=False) as data:
            return Golden(data["obs"], data["is_first"], data["action"])
