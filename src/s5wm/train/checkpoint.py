"""Checkpoints that are whole, verified, and enough to go on exactly.

One folder per checkpoint, named by its environment steps: ``state/`` (Orbax), ``tree.json`` (name, shape and dtype of
every array), ``host.json`` (what the host loop remembers), ``policy.npz``, and ``manifest.json`` with the SHA-256 of
each file.  A folder gets its name when it is complete, and the newest valid one is found by looking.
"""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.errors import CorruptError, S5wmError, WriteError
from s5wm.train.files import read_json, verify_manifest, write_json, write_manifest
from s5wm.train.policyfile import named_leaves, save_policy

Tree = TypeVar("Tree")


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, env_steps: int, state: Any, host: dict[str, Any], policy: Any) -> Path:
        """Write a checkpoint, then drop the oldest ones."""
        final = self.folder / f"{env_steps:012d}"
        partial = self.folder / f"partial-{env_steps:012d}"
        _remove(partial)
        try:
            partial.mkdir(parents=True)
            save_policy(partial / "policy.npz", policy)
            write_json(partial / "host.json", host)
            _save_arrays(partial, state)
            write_manifest(partial)
            _remove(final)
            os.replace(partial, final)
        except S5wmError:
            _remove(partial)
            raise
        except (OSError, ValueError) as error:  # Orbax reports a full disk as ValueError
            _remove(partial)
            raise WriteError(f"cannot write the checkpoint {final}: {error}") from error
        for old in self.steps()[: -self.keep]:
            _remove(self.path(old))
        return final

    def steps(self) -> list[int]:
        """Environment steps of the checkpoints there are, oldest first, valid or not."""
        return sorted(int(p.name) for p in self.folder.glob("[0-9]*") if p.name.isdigit())

    def path(self, env_steps: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / f"{env_steps:012d}"

    def newest(self, say: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that is as it was written; ``say`` hears of those passed over."""
        for env_steps in reversed(self.steps()):
            try:
                verify_manifest(self.path(env_steps))
            except CorruptError as error:
                say(f"checkpoint {env_steps} is damaged ({error}); trying the one before")
            else:
                return self.path(env_steps)
        return None


def restore(checkpoint: Path, template: Tree) -> tuple[Tree, dict[str, Any]]:
    """State and host data of a verified checkpoint; ``template`` is a tree of ``ShapeDtypeStruct``."""
    described = {name: _describe(leaf) for name, leaf in named_leaves(template).items()}
    stored = read_json(checkpoint / "tree.json")
    if wrong := [name for name in {**described, **stored} if described.get(name) != stored.get(name)]:
        name = wrong[0]
        raise CorruptError(
            f"{checkpoint} belongs to another configuration or version: {len(wrong)} arrays differ, first {name}: "
            f"{stored.get(name)} stored, {described.get(name)} expected"
        )
    leaves = _restore_arrays(checkpoint, template)
    return jax.tree.unflatten(jax.tree.structure(template), leaves), read_json(checkpoint / "host.json")


def _save_arrays(folder: Path, state: Any) -> None:
    import orbax.checkpoint as ocp  # slow to import

    named = named_leaves(state)
    arrays = [np.asarray(jr.key_data(x) if _is_key(x) else x) for x in named.values()]
    write_json(folder / "tree.json", {name: _describe(leaf) for name, leaf in named.items()})
    with warnings.catch_warnings(), ocp.StandardCheckpointer() as checkpointer:
        warnings.simplefilter("ignore")
        checkpointer.save((folder / "state").absolute(), _numbered(arrays))


def _restore_arrays(folder: Path, template: Any) -> list[jax.Array]:
    import orbax.checkpoint as ocp

    leaves = jax.tree.leaves(template)
    shapes = [jax.eval_shape(jr.key_data, x) if _is_key(x) else x for x in leaves]
    target = [np.zeros(x.shape, x.dtype) for x in shapes]
    with warnings.catch_warnings(), ocp.StandardCheckpointer() as checkpointer:
        warnings.simplefilter("ignore")
        try:
            restored = checkpointer.restore((folder / "state").absolute(), _numbered(target))
        except (OSError, ValueError, KeyError) as error:
            raise CorruptError(f"cannot read {folder / 'state'}: {error}") from error
    arrays = [jnp.asarray(restored[name]) for name in _numbered(target)]
    # Keys are of the default implementation: tree.json has told that they are those of the template.
    return [jr.wrap_key_data(a) if _is_key(t) else a for a, t in zip(arrays, leaves, strict=True)]


def _numbered(arrays: list[Any]) -> dict[str, Any]:
    return {f"{index:05d}": array for index, array in enumerate(arrays)}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
