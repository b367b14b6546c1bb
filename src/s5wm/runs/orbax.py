"""Arrays of a checkpoint in an Orbax folder: one save at a time; reads are checked against a template."""

import threading
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from s5wm.errors import CorruptError

Arrays = dict[str, NDArray[Any]]

_ORBAX = threading.Lock()
"""Concurrent saves, of seeds that train together, disturb each other's event loop."""


def save_arrays(folder: Path, arrays: dict[str, Any]) -> None:
    """Write the arrays, if there are any."""
    import orbax.checkpoint as ocp  # slow to import

    if not arrays:
        return  # Orbax refuses an empty tree
    with _ORBAX, warnings.catch_warnings(), ocp.StandardCheckpointer(**_alone()) as checkpointer:
        warnings.simplefilter("ignore")
        checkpointer.save(folder.absolute(), arrays)


def restore_arrays(folder: Path, target: dict[str, Any]) -> dict[str, Any]:
    """Read arrays like those of ``target``; raises ``CorruptError`` if the folder holds others."""
    import orbax.checkpoint as ocp

    if not target:
        return {}
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
    """Orbax is not to wait for other processes: the leading one saves what it has gathered, and each reads all."""
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


def describe(leaf: Any) -> str:
    """Type and shape of an array, or of a shape struct."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def undescribed(text: str) -> jax.ShapeDtypeStruct:
    """The inverse, for arrays of plain numbers."""
    kind, _, shape = text.rstrip("]").partition("[")
    return jax.ShapeDtypeStruct(tuple(int(size) for size in shape.split(",") if size), np.dtype(kind))
