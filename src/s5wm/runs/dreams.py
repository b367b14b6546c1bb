"""Film strips of what a camera saw and what a world model made of it; a plain ``.npz`` of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, kw_only=True, eq=False)
class Dream:
    """One moment and the ``H`` steps after it; place 0 is the moment itself."""

    dt: float  # s per step
    real: UInt8[np.ndarray, "H1 h w 3"]
    believed: UInt8[np.ndarray, "H1 h w 3"]  # from the posterior, which has seen the images up to there
    dreamed: UInt8[np.ndarray, "H1 h w 3"]  # open loop along the real actions, which has seen only place 0
    is_ghost: bool  # the images of a camera where the drone is believed to be, rather than decoded ones


def save_dreams(path: Path, dreams: Sequence[Dream]) -> None:
    """Writes the file, replacing it whole; all dreams must be equally long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(
        unfinished,
        dt=np.float32(dreams[0].dt),
        is_ghost=np.bool_(dreams[0].is_ghost),
        real=np.stack([one.real for one in dreams]),
        believed=np.stack([one.believed for one in dreams]),
        dreamed=np.stack([one.dreamed for one in dreams]),
    )
    unfinished.replace(path)


def load_dreams(path: Path) -> list[Dream]:
    """What ``save_dreams`` wrote."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        return [
            Dream(dt=float(data["dt"]), is_ghost=bool(data["is_ghost"]), real=r, believed=b, dreamed=d)
            for r, b, d in zip(data["real"], data["believed"], data["dreamed"], strict=True)
        ]
