"""Figures of an episode that print as numbers rather than as arrays."""

from typing import Any

import jax
import numpy as np

from s5wm.types import OptionalMetric


@jax.tree_util.register_pytree_with_keys_class
class ReadableMetrics(dict[str, Any]):
    """The same dictionary to JAX and to everyone who reads it; its ``repr`` has numbers, and None for no such figure.

    Figures of several copies of an environment (``vmap``) are printed as lists.
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
        if isinstance(value.exists, jax.core.Tracer):
            return repr(value)
        parts = np.asarray(value.value).astype(object)
        return _number(np.where(np.asarray(value.exists), parts, None))
    if isinstance(value, jax.core.Tracer) or not isinstance(value, jax.Array | np.ndarray | np.generic):
        return repr(value)
    listed = np.asarray(value).tolist()
    return _short(listed) if np.ndim(value) == 0 else "[" + ", ".join(map(_short, listed)) + "]"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
