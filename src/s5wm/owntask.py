"""What an evaluation reports of a task that it does not know by name."""

from typing import Any

import numpy as np

from s5wm.envs.base import OwnTask
from s5wm.train.evaluate import Flights
from s5wm.types import OptionalMetric


def own_figures(task: OwnTask, flights: Flights) -> dict[str, Any]:
    """Success by the task's own word, and the mean of each metric over the episodes that have it."""
    metrics = {
        name: np.where(metric.exists, metric.value, np.nan)
        if isinstance(metric, OptionalMetric)
        else np.asarray(metric)
        for name, metric in flights.metrics.items()
    }
    solved = task.success(metrics, np.asarray(flights.return_nominal))
    means = {
        f"{name}_mean": float(np.nanmean(values)) if np.isfinite(values).any() else None
        for name, values in metrics.items()
    }
    return means | {"success_rate": float(np.mean(solved))}
