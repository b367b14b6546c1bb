"""Comparison of an exported policy with the trained one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from s5wm.deploy.golden import Golden
from s5wm.deploy.graph import Graph
from s5wm.deploy.inputs import Array, Inputs
from s5wm.deploy.reference import evaluate
from s5wm.deploy.runtime.engines import Engine

FLOWN_TOLERANCE = 1e-5
"""Tolerance of an action, in halves of its range, on observations of the policy's own flights, with memory."""

RANDOM_TOLERANCE = 1e-4
"""Tolerance on random observations, far from the training data, where float32 is less accurate."""


@dataclass(frozen=True)
class Errors:
    """Largest absolute differences of an action, in halves of its range: of one in ``[-1, 1]`` the number itself."""

    flown: float
    random: float

    @property
    def fits(self) -> bool:
        """Whether both are within their tolerance."""
        return self.flown <= FLOWN_TOLERANCE and self.random <= RANDOM_TOLERANCE


def random_observations(golden: Golden, steps: int, *, seed: int = 0) -> Inputs:
    """Inputs ``[T, ...]`` around those flown, three times as far spread; some zero, denormal, or at ten times the
    largest.

    Images are random pixels.
    """
    rng = np.random.default_rng(seed)
    return tuple(_around(array, steps, rng) for array in golden.inputs)


def _around(flown: Array, steps: int, rng: np.random.Generator) -> Array:
    shape = (steps, *flown.shape[1:])
    if flown.dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    mean, std, largest = flown.mean(0), flown.std(0), np.abs(flown).max(0)
    obs = mean + 3.0 * std * rng.normal(size=shape)
    obs[::10] *= 1e-40
    obs[5::20] = 10.0 * largest * np.sign(obs[5::20])
    obs[:: max(1, steps // 5)] = 0.0
    return obs.astype(np.float32)


def engine_actions(
    engine: Engine, inputs: Inputs, is_first: Bool[np.ndarray, " T"]
) -> Float[np.ndarray, "T A"]:
    """Actions of an engine along inputs ``[T, ...]``."""
    actions: list[Float[np.ndarray, " A"]] = []
    for begins, *now in zip(is_first, *inputs, strict=True):
        if begins:
            engine.reset()
        actions.append(engine.step(*now))
    return np.array(actions)


class ReferenceEngine:
    """The graph itself, in NumPy."""

    def __init__(self, graph: Graph, dtype: type[np.floating] = np.float32) -> None:
        self._graph = graph
        self.memory = np.zeros(graph.memory.shape, dtype)

    def reset(self) -> None:
        """Reset the memory."""
        self.memory = np.zeros_like(self.memory)

    def step(self, *inputs: Array) -> Float[np.ndarray, " A"]:
        """Every operation."""
        action, self.memory = evaluate(self._graph, inputs, self.memory)
        return action


def compare(
    engine: Engine,
    golden: Golden,
    random: Golden,
    half_ranges: Float[np.ndarray, " A"] | float = 1.0,
    rounding: Float[np.ndarray, " A"] | float = 0.0,
) -> Errors:
    """Errors of an engine against what the trained policy did on both; ``rounding`` of an action is none."""

    def largest(each: Golden) -> float:
        difference = np.abs(engine_actions(engine, each.inputs, each.is_first) - each.action)
        return float((np.maximum(difference - rounding, 0.0) / half_ranges).max())

    return Errors(largest(golden), largest(random))
