"""Arrays of a checkpoint of up to schema 5 from its Orbax folder, checked against a template."""

import threading
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np

from s5wm.errors import ConfigError, CorruptError
from s5wm.runs.shapes import Arrays, describe

LAST_SCHEMA = 5
"""With arrays in Orbax."""

_ORBAX = threading.Lock()
"""Concurrent reads, of seeds that train together, disturb each other's event loop."""


def restore_small(folder: Path, shapes: dict[str, jax.ShapeDtypeStruct], schema: int) -> Arrays:
    """The arrays of these shapes.

    Up to schema 2 they lie one by one, by position in tree.json, since Orbax would make folders of the dots in a name;
    ``shapes`` is then by position.  Later they lie end to end, one array for each type.  Raises ``ConfigError`` where
    Orbax is not installed, ``CorruptError`` where the folder holds other arrays.
    """
    if schema < 3:
        return _restore(folder, {name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()})
    sizes: dict[str, int] = {}
    for x in shapes.values():
        name = np.dtype(x.dtype).name
        sizes[name] = sizes.get(name, 0) + int(np.prod(x.shape, dtype=np.int64))
    target = {name: np.zeros(size, name) for name, size in sizes.items() if size}
    return _apart(_restore(folder, target), shapes)


def _restore(folder: Path, target: Arrays) -> Arrays:
    if not target:
        return {}
    if find_spec("orbax") is None:
        raise ConfigError(
            f"{folder.parent} was saved by an earlier version of s5wm, with Orbax: pip install 's5wm[orbax]' to read it"
        )
    import orbax.checkpoint as ocp

    with _ORBAX, warnings.catch_warnings(), ocp.StandardCheckpointer(**_alone()) as checkpointer:
        warnings.simplefilter("ignore")
        try:
            # Compared before it is read: Orbax allocates what the folder says, and cuts or casts to the target.
            held = checkpointer.metadata(folder.absolute()).item_metadata.tree
            _check_held(folder, {name: describe(leaf) for name, leaf in held.items()}, target)
            return checkpointer.restore(folder.absolute(), target)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CorruptError(f"cannot read {folder}: {error}") from error


def _alone() -> dict[str, Any]:
    """Orbax is not to wait for other processes: each reads all."""
    if jax.process_count() == 1:
        return {}
    from orbax.checkpoint.options import MultiprocessingOptions

    own = jax.process_index()
    return {
        "multiprocessing_options": MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}"
        )
    }


def _check_held(folder: Path, held: dict[str, str], target: Arrays) -> None:
    expected = {name: describe(array) for name, array in target.items()}
    if wrong := sorted(name for name in {**held, **expected} if held.get(name) != expected.get(name)):
        name = wrong[0]
        raise CorruptError(
            f"{folder} does not hold what its checkpoint lists: {name} is {held.get(name)}, not {expected.get(name)}"
        )


def _apart(kinds: Arrays, shapes: dict[str, jax.ShapeDtypeStruct]) -> Arrays:
    """The arrays that lie end to end."""
    arrays: Arrays = {}
    taken = dict.fromkeys(kinds, 0)
    for name, x in shapes.items():
        kind, size = np.dtype(x.dtype).name, int(np.prod(x.shape, dtype=np.int64))
        if not size:
            arrays[name] = np.zeros(x.shape, x.dtype)
            continue
        piece = np.asarray(kinds[kind])[taken[kind] : taken[kind] + size]
        arrays[name] = piece.reshape(x.shape).copy()  # no two arrays of a state may share a buffer (donation)
        taken[kind] += size
    return arrays
