"""Observations of a Gymnasium environment in the form of agents; needs NumPy alone, since workers read it too.

Vectors of any shape are flattened; ``Discrete``, ``MultiDiscrete`` and ``MultiBinary`` become one-hots and flags.  An
image is a ``Box`` of uint8 of at least ``LEAST_SIDE`` pixels a side: two axes next to each other.  All other axes are
channels: colours before or behind, and the frames of a stack.  Of a dictionary or a tuple, all numbers become one
vector in the order of Gymnasium's own spaces, and its images one image, their channels one after the other.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s5wm.errors import ConfigError

Values = NDArray[Any]

LEAST_SIDE = 32
"""Pixels of an image's shorter side; smaller arrays of uint8 are vectors."""

SIDE = 64
LARGEST_SIDE = 128
"""Images with a side that is longer, or no multiple of 16, are resized to ``SIDE`` x ``SIDE``."""

LARGEST_BYTE = 255


@dataclass(frozen=True)
class Part:
    """Images ``[N, h, w, c]`` (shape of three) or vectors ``[N, n]`` (of one), and how ``N`` observations give them."""

    shape: tuple[int, ...]
    read: Callable[[Any], Values]


@dataclass(frozen=True)
class Observations:
    """The parts of an observation: an image, a vector, or both for the policy, and what only training may know."""

    image: Part | None
    vector: Part | None
    privileged: Part | None

    @property
    def parts(self) -> dict[str, Part]:
        """Those that there are."""
        named = {"image": self.image, "vector": self.vector, "privileged": self.privileged}
        return {name: part for name, part in named.items() if part is not None}


def batched(obs: Any) -> Any:
    """One observation as a batch of one, as vector environments give them."""
    if isinstance(obs, dict):
        return {name: batched(value) for name, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(batched(value) for value in obs)
    return np.asarray(obs)[None]


def read_observations(space: Any, privileged: Sequence[str] = ()) -> Observations:
    """Of an ``observation_space``; raises ``ConfigError`` for one that no agent can read.

    ``privileged`` are keys of a ``Dict`` that are hidden from the policy.
    """
    if not privileged:
        found = _parts(space, "its observation", lambda obs: obs)
        return Observations(_image(found), _vector(found), None)
    known = list(space.spaces) if type(space).__name__ == "Dict" else []
    if missing := [name for name in privileged if name not in known]:
        raise ConfigError(
            f"--privileged {missing[0]} is no key of its observation"
            + (f" ({', '.join(map(str, known))})" if known else f", which is {type(space).__name__}")
            + ": name keys of a Dict observation"
        )
    hidden = [part for name in privileged for part in _entry(space, name)]
    if any(len(part.shape) == 3 for part in hidden):
        raise ConfigError(
            f"--privileged {', '.join(privileged)} holds an image; critics and decoders learn from numbers: "
            "name other keys"
        )
    shown = [part for name in known if name not in privileged for part in _entry(space, name)]
    if not shown:
        raise ConfigError(
            f"--privileged {', '.join(privileged)} leaves nothing that the policy sees: name fewer keys"
        )
    return Observations(_image(shown), _vector(shown), _vector(hidden))


def _entry(space: Any, name: str) -> list[Part]:
    return _parts(space.spaces[name], f"its observation, {name},", lambda obs: obs[name])


def _parts(space: Any, what: str, at: Callable[[Any], Any]) -> list[Part]:
    """All parts, in order; ``at`` finds this one in a whole observation."""
    kind = type(space).__name__
    if kind in ("Dict", "Tuple"):
        named = space.spaces.items() if isinstance(space.spaces, dict) else enumerate(space.spaces)
        return [
            found
            for name, part in named
            for found in _parts(part, f"{what}, {name},", lambda obs, name=name: at(obs)[name])
        ]
    if kind == "Discrete":
        sizes, starts = np.array([int(space.n)]), np.array([int(space.start)])
        return [Part((int(space.n),), lambda obs: _onehots(np.asarray(at(obs)), sizes, starts))]
    if kind == "MultiDiscrete":
        sizes, starts = np.asarray(space.nvec).ravel(), np.asarray(space.start).ravel()
        return [Part((int(sizes.sum()),), lambda obs: _onehots(np.asarray(at(obs)), sizes, starts))]
    if (seen := _image_part(space, at)) is not None:
        return [seen]
    if kind in ("Box", "MultiBinary"):
        shape = tuple(space.shape)
        return [Part((math.prod(shape),), lambda obs: _flat(at(obs), shape))]
    raise ConfigError(
        f"{what} is {kind}; agents read Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these: give it "
        "a wrapper that shows one of them"
    )


def _flat(obs: Any, shape: tuple[int, ...]) -> Values:
    array = np.asarray(obs, np.float32)
    _check(array, shape)
    return array.reshape(array.shape[0], -1)


def _check(array: Values, shape: tuple[int, ...]) -> None:
    if array.shape[1:] != shape:
        raise ConfigError(f"an observation has shape {array.shape[1:]}, its space {shape}")


def _onehots(values: Values, sizes: Values, starts: Values) -> Values:
    values = values.reshape(values.shape[0], -1)
    _check(values, sizes.shape)
    chosen = values - starts
    if not ((chosen >= 0) & (chosen < sizes) & (chosen == np.floor(chosen))).all():
        raise ConfigError(f"an observation chooses {values.tolist()}, which its space does not hold")
    return np.concatenate(
        [np.eye(n, dtype=np.float32)[chosen[:, i].astype(int)] for i, n in enumerate(sizes)], axis=-1
    )


def _bytes(array: Values) -> Values:
    """Pixels as uint8; raises ``ConfigError`` for numbers that may mean something else than 0 to 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iub" or (array.size and (array.min() < 0 or array.max() > LARGEST_BYTE)):
        raise ConfigError(
            f"an image holds {array.dtype} from {np.min(array):g} to {np.max(array):g}, and its space is of uint8: "
            "give whole numbers from 0 to 255"
        )
    return array.astype(np.uint8)


def _vector(parts: Sequence[Part]) -> Part | None:
    vectors = [part for part in parts if len(part.shape) == 1]
    if len(vectors) < 2:
        return vectors[0] if vectors else None
    size = sum(part.shape[0] for part in vectors)
    return Part((size,), lambda obs: np.concatenate([part.read(obs) for part in vectors], axis=-1))


def _image(parts: Sequence[Part]) -> Part | None:
    """One image of all: as they are where they have one size that encoders can halve four times, else resized."""
    images = [part for part in parts if len(part.shape) == 3]
    if not images:
        return None
    sizes, channels = {part.shape[:2] for part in images}, sum(part.shape[2] for part in images)
    high, wide = images[0].shape[:2]
    fits = len(sizes) == 1 and high % 16 == 0 and wide % 16 == 0 and max(high, wide) <= LARGEST_SIDE
    if fits and len(images) == 1:
        return images[0]
    if fits:
        return Part(
            (high, wide, channels), lambda obs: np.concatenate([p.read(obs) for p in images], axis=-1)
        )
    shape = (SIDE, SIDE, channels)
    return Part(shape, lambda obs: np.concatenate([resized(p.read(obs)) for p in images], axis=-1))


def _image_part(space: Any, at: Callable[[Any], Any]) -> Part | None:
    """How an image is read as ``[h, w, c]``; None if the space is of none."""
    shape = getattr(space, "shape", None)
    if type(space).__name__ != "Box" or space.dtype != np.uint8 or shape is None:
        return None
    shape = tuple(shape)
    # Frames of a stack come first: of (40, 84, 84, 3) the pixels are the later pair.
    order = (0, 1) if len(shape) < 4 else (1, 2, 0, *range(3, len(shape)))
    row = next(
        (axis for axis in order if axis + 1 < len(shape) and min(shape[axis : axis + 2]) >= LEAST_SIDE), None
    )
    if row is None:
        return None
    pixels = shape[row : row + 2]
    channels = math.prod(shape) // math.prod(pixels)

    def read(obs: Any) -> Values:
        array = np.asarray(at(obs))
        _check(array, shape)
        turned = np.moveaxis(_bytes(array), (row + 1, row + 2), (1, 2))
        return turned.reshape(-1, *pixels, channels)

    return Part((*pixels, channels), read)


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
