"""What both Gymnasium adapters share: spaces, observations, seeds, titles."""

from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from jaxtyping import Shaped
from numpy.typing import NDArray

from s5wm.actions import Discrete, MultiDiscrete
from s5wm.envs.base import EnvSpec
from s5wm.types import MixedObs, Obs

Observed: TypeAlias = NDArray[Any] | dict[str, NDArray[Any]]
"""An observation as Gymnasium has it: an array, or ``image`` and ``vector``."""


def observation_space(spec: EnvSpec) -> spaces.Space[Any]:
    """Of one environment: a ``Box``, or a ``Dict`` of ``image`` and ``vector`` where observations hold both."""
    is_image = spec.obs_dtype == np.uint8
    low, high = (0, 255) if is_image else (-np.inf, np.inf)
    box = spaces.Box(low, high, spec.obs_shape, np.uint8 if is_image else np.float32)
    if not spec.vector_size:
        return box
    return spaces.Dict({"image": box, "vector": spaces.Box(-np.inf, np.inf, (spec.vector_size,), np.float32)})


def observed(obs: Obs | Shaped[np.ndarray, "..."], index: int | None = None) -> Observed:
    """Copies of observations ``[N, ...]``, or of that of one environment."""
    if isinstance(obs, MixedObs):
        return {"image": _copied(obs.image, index), "vector": _copied(obs.vector, index)}
    return _copied(obs, index)


def _copied(values: Any, index: int | None) -> NDArray[Any]:
    return np.array(values if index is None else values[index])


def action_space(spec: EnvSpec) -> spaces.Space[Any]:
    """Of one environment."""
    action = spec.action
    if isinstance(action, Discrete):
        return spaces.Discrete(action.n)
    if isinstance(action, MultiDiscrete):
        return spaces.MultiDiscrete(list(action.groups))
    low, high = (
        np.broadcast_to(np.asarray(bound, np.float32), (action.width,)).reshape(action.shape)
        for bound in action.bounds
    )
    return spaces.Box(low, high, dtype=np.float32)


def drawn_seed(generator: np.random.Generator) -> int:
    """A seed where the user gives none."""
    return int(generator.integers(2**31))


def title_of(env: Any) -> str:
    """What stands above pictures of it."""
    return "s5wm" if env.spec is None else str(env.spec.id)
