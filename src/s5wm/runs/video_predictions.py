"""Video predictions: real, reconstructed and predicted images in a plain ``.npz``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from s5wm.runs.arrays import write_arrays

VIDEO_PREDICTIONS = Path("plots") / "video_prediction.npz"
"""Where a run keeps them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPrediction:
    """One moment and the ``H`` steps after it; place 0 is the moment itself."""

    dt: float  # s per step
    real: UInt8[np.ndarray, "H1 h w c"]
    estimated: UInt8[np.ndarray, "H1 h w c"]  # from the posterior, which has seen the images up to there
    predicted: UInt8[np.ndarray, "H1 h w c"]  # open loop along the real actions, which has seen only place 0
    is_ghost: bool  # the images rendered at the estimated pose of the drone, rather than decoded ones
    steps: int  # that the episode went on for; images after them are of others


def save_video_predictions(path: Path, predictions: Sequence[VideoPrediction]) -> None:
    """Writes the file, replacing it whole; all predictions must be equally long."""
    arrays = {
        "dt": np.float32(predictions[0].dt),
        "is_ghost": np.bool_(predictions[0].is_ghost),
        "steps": np.array([one.steps for one in predictions]),
        "real": np.stack([one.real for one in predictions]),
        "estimated": np.stack([one.estimated for one in predictions]),
        "predicted": np.stack([one.predicted for one in predictions]),
    }
    write_arrays(path, arrays)


def load_video_predictions(path: Path) -> list[VideoPrediction]:
    """Read a file of ``save_video_predictions``."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        count, length = data["real"].shape[:2]
        steps = data["steps"] if "steps" in data else np.full(count, length - 1)  # older files have none
        columns = (data["real"], data["estimated"], data["predicted"], steps)
        return [
            VideoPrediction(
                dt=float(data["dt"]),
                is_ghost=bool(data["is_ghost"]),
                real=real,
                estimated=estimated,
                predicted=predicted,
                steps=int(own),
            )
            for real, estimated, predicted, own in zip(*columns, strict=True)
        ]
