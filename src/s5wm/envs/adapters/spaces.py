"""Actions of a Gymnasium environment in the form of agents."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from s5wm.actions import ActionSpec, Box, Discrete, MultiDiscrete
from s5wm.envs.adapters.observations import Values
from s5wm.errors import ConfigError


def read_actions(space: Any) -> tuple[ActionSpec, Callable[[Values], Any]]:
    """Of an ``action_space``: the spec, and a function from decoded actions ``[N, ...]`` to what the env takes.

    Raises ``ConfigError`` for actions that no agent can choose.
    """
    try:
        return _read(space)
    except ValueError as error:
        raise ConfigError(f"its action: {error}") from error


def _read(space: Any) -> tuple[ActionSpec, Callable[[Values], Any]]:
    kind = type(space).__name__
    if kind == "Discrete":
        start = int(space.start)
        return Discrete(int(space.n)), lambda action: action.astype(np.int64) + start
    if kind == "MultiDiscrete":
        shape, starts = space.nvec.shape, np.asarray(space.start)
        groups = tuple(int(n) for n in space.nvec.ravel())
        dtype = space.dtype
        return MultiDiscrete(groups), lambda action: (action.reshape(-1, *shape) + starts).astype(dtype)
    if kind == "MultiBinary":
        shape, count = space.shape, math.prod(space.shape)
        return MultiDiscrete((2,) * count), lambda action: action.reshape(-1, *shape).astype(space.dtype)
    if kind != "Box" or space.dtype.kind != "f":
        raise ConfigError(
            f"its action is {kind}"
            + (f" of {space.dtype}" if kind == "Box" else "")
            + "; agents choose Box of "
            "real numbers, Discrete, MultiDiscrete or MultiBinary: give it a wrapper that takes one of them"
        )
    low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in (space.low, space.high))
    bounds = (low[0], high[0]) if len({*zip(low, high, strict=True)}) == 1 else (low, high)
    spec = Box(tuple(space.shape), low=bounds[0], high=bounds[1])
    # Rounding to float32 and back may leave the bounds by a last digit.
    return spec, lambda action: np.clip(action.astype(space.dtype), space.low, space.high)
