"""Parameters of another training that a run begins with: kept in the run, so that it begins the same way again."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from s5wm.errors import CorruptError
from s5wm.runs.files import (
    read_json,
    replaced_folder,
    verify_manifest,
    whole_folder,
    write_bytes,
    write_json,
)
from s5wm.runs.migrate import renamed
from s5wm.runs.policyfile import named_leaves
from s5wm.training.state import TrainState

ABOUT = "about.json"
ARRAYS = "parameters.npz"


@dataclass(frozen=True)
class Start:
    """Arrays of a learner by their names, and where they come from (JSON values)."""

    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]


def save_start(folder: Path, start: Start) -> None:
    """Write the folder, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **start.arrays)
    with replaced_folder(folder) as new:
        write_bytes(new / ARRAYS, buffer.getvalue())
        write_json(new / ABOUT, start.about)


def read_start(folder: Path) -> Start | None:
    """What ``save_start`` wrote; None where a run begins with fresh parameters.  Raises ``CorruptError``."""
    folder = whole_folder(folder)
    if not folder.is_dir():
        return None
    verify_manifest(folder)
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = {renamed(name): stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptError(f"cannot read {folder / ARRAYS}: {error}") from error
    return Start(arrays, read_json(folder / ABOUT))


def begin_with(state: TrainState[Any], start: Start) -> TrainState[Any]:
    """A fresh state whose learner has the arrays of ``start``, and its own where that holds none."""
    named = named_leaves(state.learner)
    if unknown := sorted(start.arrays.keys() - named.keys()):
        raise CorruptError(f"{ARRAYS} of a run's start holds {unknown[0]}, which its learner does not have")
    leaves = [jnp.array(start.arrays[name]) if name in start.arrays else leaf for name, leaf in named.items()]
    learner = jax.tree.unflatten(jax.tree.structure(state.learner), leaves)
    return eqx.tree_at(lambda s: s.learner, state, learner)
