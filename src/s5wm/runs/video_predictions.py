"""Video predictions: real, reconstructed and predicted images in a plain ``.npz``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

VIDEO_PREDICTIONS = Path("plots") / "video_prediction.npz"
"""Where a run keeps them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPrediction:
    """One moment and the ``H`` steps after it; place 0 is the moment itself."""

    dt: float  # s per step
    real: UInt8[np.ndarray, "H1 h w 3"]
    estimated: UInt8[np.ndarray, "H1 h w 3"]  # from the posterior, which has seen the images up to there
    predicted: UInt8[np.ndarray, "H1 h w 3"]  # open loop along the real actions, which has seen only place 0
    is_ghost: bool  # the images rendered at the estimated pose of the drone, rather than decoded ones


def save_video_predictions(path: Path, predictions: Sequence[VideoPrediction]) -> None:
    """Writes the file, replacing it whole; all predictions must be equally long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(
        unfinished,
        dt=np.float32(predictions[0].dt),
        is_ghost=np.bool_(predictions[0].is_ghost),
        real=np.stack([one.real for one in predictions]),
        estimated=np.stack([one.estimated for one in predictions]),
        predicted=np.stack([one.predicted for one in predictions]),
    )
    unfinished.replace(path)


def load_video_predictions(path: Path) -> list[VideoPrediction]:
    """Read a file of ``save_video_predictions``."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        return [
            VideoPrediction(
                dt=float(data["dt"]), is_ghost=bool(data["is_ghost"]), real=r, estimated=b, predicted=d
            )
            for r, b, d in zip(data["real"], data["estimated"], data["predicted"], strict=True)
        ]
