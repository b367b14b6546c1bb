"""Means over seeds with their uncertainty.

The statistics are those of Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice"): the mean of the
middle half of the seeds, and the 95 % percentile interval of resampled seeds.  Rates are plain means: they are often
nought or one, and a middle half would hide a seed that never arrives.  Below five seeds an interval would promise what
it cannot hold: there the range of the seeds is given in its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
FEW = 5  # seeds below which their range is given instead of an interval


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval, or their range where they are few."""

    value: float
    low: float
    high: float
    seeds: int  # that have the metric


def interquartile_mean(values: Float[np.ndarray, "*b K"]) -> Float[np.ndarray, "*b"]:
    """Mean of the middle half along the last axis, the values at its borders counted in part."""
    count = values.shape[-1]
    edges = np.arange(count + 1) / count
    inside = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return np.asarray(np.sort(values, axis=-1) @ (inside / inside.sum()))


def estimate(values: Sequence[float], *, is_rate: bool = False) -> Estimate:
    """Mean of rates, inter-quartile mean of others, with the bootstrap interval or the range of few seeds.

    Raises ``ValueError`` without any value.
    """
    array = np.asarray(values, float)
    if not len(array):
        raise ValueError("an estimate needs the value of at least one seed; leave out what no seed has")
    middle: Callable[..., Any] = np.mean if is_rate else interquartile_mean
    value = float(middle(array))
    if len(array) < FEW:
        return Estimate(value, float(array.min()), float(array.max()), len(array))
    drawn = array[np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))]
    means = drawn.mean(axis=-1) if is_rate else interquartile_mean(drawn)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(array))
