"""The arrays of a policy in one ``.npz`` file, checked against its configuration before use."""

import io
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from s5wm.errors import CorruptError, DivergedError
from s5wm.runs.files import write_bytes
from s5wm.runs.migrate import renamed

Tree = TypeVar("Tree")


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by their path, e.g. ``actor.network.out.bias``."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def save_policy(path: Path, policy: Any) -> None:
    """Write every array; refuses numbers that are not finite."""
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(policy).items()}
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise DivergedError(f"the policy's {name} is not finite; it is not saved")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def load_policy(path: Path, template: Tree) -> Tree:
    """The arrays of ``path`` in the shape of ``template`` (arrays or their shapes), which they must match."""
    expected = named_leaves(template)
    try:
        with np.load(path, allow_pickle=False) as stored:
            renamings = {renamed(name): name for name in stored.files}
            there = {name: renamings.get(name) or _stored_name(name, stored.files) for name in expected}
            _check_names(path, set(stored.files), set(there.values()))
            leaves = [_checked(path, there[name], stored, leaf) for name, leaf in expected.items()]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptError(f"cannot read the policy {path}: {error}") from error
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _stored_name(name: str, stored: Collection[str]) -> str:
    """PPO's actor was its network alone, up to schema 1."""
    older = name.replace("actor.network.", "actor.", 1)
    return older if name not in stored and older in stored else name


def _check_names(path: Path, stored: set[str], expected: set[str]) -> None:
    if odd := sorted(stored ^ expected):
        where = "lacks" if odd[0] in expected else "has, against its configuration,"
        raise CorruptError(
            f"the policy {path} {where} the array {odd[0]}; config.json belongs to another one"
        )


def _checked(path: Path, name: str, stored: Any, expected: Any) -> jax.Array:
    array: np.ndarray[Any, Any] = stored[name]
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise CorruptError(
            f"{name} in {path} is {array.dtype}{list(array.shape)}, its configuration asks for "
            f"{expected.dtype}{list(expected.shape)}"
        )
    if not np.all(np.isfinite(array)):
        raise CorruptError(f"{name} in {path} holds numbers that are not finite")
    return jnp.asarray(array)
