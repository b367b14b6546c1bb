"""Means over seeds with their uncertainty.

The statistics are those of Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice"): the mean of the
middle half of the seeds, and the 95 % percentile interval of resampled seeds.  Rates are plain means: they are often
nought or one, and a middle half would hide a seed that never arrives.  Up to ten seeds an interval would promise what
it cannot hold (of five, resampling covers far less than 95 %): there the lowest and the highest seed are given in its
place.  Rates that are all equal have Wilson's interval: resampled, their interval would have no width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
FEW = 10  # seeds up to which their range is given instead of an interval


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval, or the lowest and highest seed where they are few."""

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
    if len(array) <= FEW:
        return Estimate(value, float(array.min()), float(array.max()), len(array))
    if is_rate and array.min() == array.max():
        return Estimate(value, *wilson(float(array.sum()), len(array)), len(array))
    drawn = array[np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))]
    means = drawn.mean(axis=-1) if is_rate else interquartile_mean(drawn)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(array))


def wilson(successes: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share: of 95 % by default."""
    share = successes / count
    middle = share + z * z / (2.0 * count)
    half = z * math.sqrt(share * (1.0 - share) / count + z * z / (4.0 * count * count))
    low, high = ((middle + sign * half) / (1.0 + z * z / count) for sign in (-1.0, 1.0))
    return round(max(low, 0.0), 4), round(min(high, 1.0), 4)
