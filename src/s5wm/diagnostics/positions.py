"""Positions of a drone in the states that a world model decodes."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from s5wm.envs.task import AbstractDroneTask, AbstractTask
from s5wm.runs.flights import TrackGeometry


def track_of_task(task: AbstractTask) -> TrackGeometry | None:
    """The gates, where there are any."""
    judged = task.eval_config().underlying
    return judged.track_geometry(judged.build()) if isinstance(judged, AbstractDroneTask) else None


def positions_of(
    task: AbstractTask, state: Float[np.ndarray, "*b Y"], target: Literal["observation", "privileged"]
) -> Float[np.ndarray, "*b 3"] | None:
    """Positions (m) of the drone in vectors of that kind; None if they hold none, or if there is no drone."""
    own = task.underlying
    return own.positions(track_of_task(own), state, target) if isinstance(own, AbstractDroneTask) else None
