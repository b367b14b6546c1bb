"""Metrics of an episode that print as numbers rather than as arrays."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from s5wm.types import OptionalMetric


@jax.tree_util.register_pytree_with_keys_class
class ReadableMetrics(dict[str, Any]):
    """A dictionary, also to JAX, whose ``repr`` has numbers, and None for a metric that an episode lacks.

    Metrics of a batch of environments (``vmap``) are printed as lists.
    """

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {_number(value)}" for name, value in self.items()) + "}"

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[str, ...]]:
        """Children by name, in the order of the names, as of any dictionary."""
        names = tuple(sorted(self))
        return tuple((jax.tree_util.DictKey(name), self[name]) for name in names), names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], children: Any) -> "ReadableMetrics":
        """The inverse."""
        return cls(zip(names, children, strict=True))


def _number(value: Any) -> str:
    if isinstance(value, OptionalMetric):
        if isinstance(value.exists, Tracer):
            return repr(value)
        return _listed(_with_none(np.asarray(value.value).tolist(), np.asarray(value.exists).tolist()))
    if isinstance(value, Tracer) or not isinstance(value, jax.Array | np.ndarray | np.generic):
        return repr(value)
    return _listed(np.asarray(value).tolist())


def _with_none(values: Any, exist: Any) -> Any:
    if isinstance(values, list):
        return [_with_none(value, exists) for value, exists in zip(values, exist, strict=True)]
    return values if exist else None


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_listed, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
