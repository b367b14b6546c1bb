"""What a Gymnasium environment shows and takes, as agents know it.

Vectors of any shape are flattened; ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` become one-hots and flags;
dictionaries and tuples of all these become one vector, in the order of Gymnasium's own spaces.  An image is a ``Box``
of uint8 of at least ``LEAST_SIDE`` pixels a side, with its channels last, first, or none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s5wm.actions import ActionSpec, Box, Discrete, MultiDiscrete
from s5wm.errors import ConfigError

Values = NDArray[Any]

LEAST_SIDE = 32
"""Pixels of an image's shorter side; smaller arrays of uint8 are vectors."""

SIDE = 64
LARGEST_SIDE = 128
"""Images with a side that is longer, or no multiple of 16, are resized to ``SIDE`` x ``SIDE``."""


@dataclass(frozen=True)
class Observations:
    """How observations are read: shape and dtype of one, and a function of ``N`` at once, as a vector env has them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batch: Callable[[Any], Values]

    def encode(self, obs: Any, count: int | None) -> Values:
        """One observation of a user (``count`` None), or ``count`` of them."""
        if count is not None:
            return self.batch(obs)
        return self.batch(_batched(obs))[0]


def _batched(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {name: _batched(value) for name, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_batched(value) for value in obs)
    return np.asarray(obs)[None]


def read_observations(space: Any) -> Observations:
    """Of an ``observation_space``; raises ``ConfigError`` for one that no agent can read."""
    if (layout := _image_layout(space)) is not None:
        return layout
    size, read = _vector(space, "its observation")
    return Observations((size,), np.dtype(np.float32), read)


def _vector(space: Any, what: str) -> tuple[int, Callable[[Any], Values]]:
    """Width, and the function that makes ``[N, width]`` of a batch."""
    kind = type(space).__name__
    if kind in ("Dict", "Tuple"):
        return _joined(space, what)
    if kind == "Discrete":
        n, start = int(space.n), int(space.start)
        return n, lambda obs: np.eye(n, dtype=np.float32)[np.asarray(obs, int).reshape(-1) - start]
    if kind == "MultiDiscrete":
        sizes = np.asarray(space.nvec).ravel()
        starts = np.asarray(space.start).ravel()
        return int(sizes.sum()), lambda obs: _onehots(np.asarray(obs), sizes, starts)
    if kind in ("Box", "MultiBinary"):
        if _image_layout(space) is not None:
            raise ConfigError(
                f"{what} has an image beside other parts: agents read either one image or vectors; choose with a "
                "wrapper (gymnasium.wrappers.FilterObservation, then FlattenObservation)"
            )
        return math.prod(space.shape), lambda obs: _flat(obs)
    raise ConfigError(
        f"{what} is {kind}; agents read Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these: give it "
        "a wrapper that shows one of them"
    )


def _flat(obs: Any) -> Values:
    array = np.asarray(obs, np.float32)
    return array.reshape(array.shape[0], -1)


def _joined(space: Any, what: str) -> tuple[int, Callable[[Any], Values]]:
    named = space.spaces.items() if isinstance(space.spaces, dict) else enumerate(space.spaces)
    parts = [(name, *_vector(part, f"{what}, {name},")) for name, part in named]

    def read(obs: Any) -> Values:
        return np.concatenate([part(obs[name]) for name, _, part in parts], axis=-1)

    return sum(size for _, size, _ in parts), read


def _onehots(values: Values, sizes: Values, starts: Values) -> Values:
    values = values.reshape(values.shape[0], -1) - starts
    return np.concatenate(
        [np.eye(n, dtype=np.float32)[values[:, i].astype(int)] for i, n in enumerate(sizes)], axis=-1
    )


def _image_layout(space: Any) -> Observations | None:
    """How an image is read as ``[h, w, c]``; None if the space is of none."""
    shape = getattr(space, "shape", None)
    if type(space).__name__ != "Box" or space.dtype != np.uint8 or shape is None:
        return None
    if len(shape) == 2 and min(shape) >= LEAST_SIDE:
        return _sized((*shape, 1), lambda obs: np.asarray(obs)[..., None])
    if len(shape) != 3:
        return None
    if min(shape[:2]) >= LEAST_SIDE:
        return _sized(tuple(shape), np.asarray)
    if min(shape[1:]) >= LEAST_SIDE:
        return _sized((*shape[1:], shape[0]), lambda obs: np.moveaxis(np.asarray(obs), 1, -1))
    return None


def _sized(shape: tuple[int, ...], read: Callable[[Any], Values]) -> Observations:
    """Images of this shape as they are, where encoders can halve them four times; else ``SIDE`` x ``SIDE``."""
    high, wide, channels = shape
    if high % 16 == 0 and wide % 16 == 0 and max(high, wide) <= LARGEST_SIDE:
        return Observations(shape, np.dtype(np.uint8), read)
    return Observations((SIDE, SIDE, channels), np.dtype(np.uint8), lambda obs: resized(read(obs)))


def resized(images: Values) -> Values:
    """Images ``[N, h, w, c]`` as ``[N, SIDE, SIDE, c]``: means over areas, or pixels repeated where there are fewer."""
    values = images.astype(np.float32)
    for axis in (1, 2):
        count = values.shape[axis]
        edges = (np.arange(SIDE) * count) // SIDE
        if count <= SIDE:
            values = np.take(values, edges, axis=axis)
            continue
        areas = np.diff(np.append(edges, count)).reshape([-1 if each == axis else 1 for each in range(4)])
        values = np.add.reduceat(values, edges, axis=axis) / areas
    return np.round(values).astype(np.uint8)


def read_actions(space: Any) -> tuple[ActionSpec, Callable[[Values], Any]]:
    """Of an ``action_space``: the spec, and a function from decoded actions ``[N, ...]`` to what the env takes."""
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
    try:
        spec = Box(tuple(space.shape), low=bounds[0], high=bounds[1])
    except ValueError as error:
        raise ConfigError(f"its action: {error}") from error
    # Rounding to float32 and back may leave the bounds by a last digit.
    return spec, lambda action: np.clip(action.astype(space.dtype), space.low, space.high)
