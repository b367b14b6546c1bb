"""Atomic, verified checkpoints, sufficient for a bitwise resume.

One folder per checkpoint, named by its environment steps: ``tree.json`` (name, shape and dtype of every array),
``blocks.json`` (where their blocks lie, see ``blocks``), ``host.json`` (what the host loop remembers),
``config.json``, ``policy.npz``, ``about.json`` (schema, hash of the configuration, versions), and ``manifest.json``
with the SHA-256 of each file.  A folder gets its name when it is complete, and the newest valid one is found by
looking.

Neighbouring checkpoints share no block: each builds on the one before the last, so that damage to one file never
costs both.
"""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from numpy.typing import NDArray

from s5wm.errors import CorruptError, S5wmError, WriteError
from s5wm.runs.blocks import BlockStore, Index, decode_index
from s5wm.runs.files import read_json, verify_manifest, write_bytes, write_json, write_manifest
from s5wm.runs.migrate import SCHEMA, added_since, copied_since, is_dropped, name_now
from s5wm.runs.orbax import LAST_SCHEMA, restore_small
from s5wm.runs.policyfile import named_leaves, save_policy
from s5wm.runs.provenance import versions
from s5wm.runs.shapes import Arrays, describe, undescribed
from s5wm.types import is_key

Tree = TypeVar("Tree")
Shapes = dict[str, jax.ShapeDtypeStruct]

PACKS = "blocks"
ABOUT = "about.json"


@dataclass(frozen=True)
class _Snapshot:
    """A snapshot on the host: training may go on while it is written."""

    env_steps: int
    arrays: dict[str, NDArray[Any]]
    tree: dict[str, str]
    host: dict[str, Any]
    policy: Any
    config: bytes


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._packs = BlockStore(folder / PACKS)
        self._indices: list[Index] = []  # of the latest checkpoints that this process wrote or verified
        self._damaged: set[int] = set()  # environment steps of those that this process found so
        self._thread: threading.Thread | None = None
        self._failed: Exception | None = None

    def save(
        self, env_steps: int, state: Any, host: dict[str, Any], policy: Any, *, config: bytes = b"{}"
    ) -> None:
        """Copy the state and write it in the background; an error of the save before is raised here."""
        self.wait()
        named = named_leaves(state)
        snapshot = _Snapshot(
            env_steps,
            # A copy, because the next chunk is given the state's buffers.
            {name: np.array(_data(leaf)) for name, leaf in named.items()},
            {name: describe(leaf) for name, leaf in named.items()},
            host,
            jax.tree.map(np.array, policy),
            config,
        )
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save in progress; raises its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def steps(self) -> list[int]:
        """Environment steps of all checkpoints, oldest first, valid or not."""
        return sorted(int(p.name) for p in self.folder.glob("[0-9]*") if p.name.isdigit())

    def path(self, env_steps: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / f"{env_steps:012d}"

    def newest(self, log: Callable[[str], None], among: Collection[int] | None = None) -> Path | None:
        """The newest valid checkpoint (of ``among``); ``log`` gets a line for each damaged one."""
        self.wait()
        for env_steps in reversed(self.steps()):
            if among is not None and env_steps not in among:
                continue
            try:
                self.verify(env_steps)
            except CorruptError as error:
                log(f"checkpoint {env_steps} is damaged ({error}); trying the one before")
                self._damaged.add(env_steps)
            else:
                self._indices = [_index(self.path(env_steps))]
                return self.path(env_steps)
        self._indices = []
        return None

    def forget_after(self, env_steps: int) -> None:
        """Remove checkpoints that are newer than the one restored."""
        self.wait()
        for later in (step for step in self.steps() if step > env_steps):
            _remove(self.path(later))
            self._indices = []  # the next one builds on none: its parent may be among them

    def verify(self, env_steps: int) -> None:
        """Raises ``CorruptError`` unless this checkpoint is bit for bit what was written."""
        path = self.path(env_steps)
        verify_manifest(path)
        self._packs.verify(_index(path))

    def _write(self, snapshot: _Snapshot) -> None:
        final = self.path(snapshot.env_steps)
        partial = self.folder / f"partial-{final.name}"
        try:
            index = self._fill(partial, snapshot)
            _remove(final)
            os.replace(partial, final)
            self._indices = [*self._indices[-1:], index]
            self._damaged.discard(snapshot.env_steps)
            self._prune()
        except S5wmError as error:
            self._failed = error
        except OSError as error:
            self._failed = WriteError(f"cannot write the checkpoint {final}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - of any kind, it must reach training: ``wait`` raises it
            self._failed = error
        finally:
            _remove(partial)
            if self._failed is not None:
                self._drop_orphans()

    def _fill(self, partial: Path, snapshot: _Snapshot) -> Index:
        _remove(partial)
        partial.mkdir(parents=True)
        save_policy(partial / "policy.npz", snapshot.policy)
        write_json(partial / "host.json", snapshot.host)
        write_bytes(partial / "config.json", snapshot.config)
        write_json(partial / "tree.json", snapshot.tree)
        index = self._packs.write(partial.name.removeprefix("partial-"), snapshot.arrays, self._parent())
        write_json(partial / "blocks.json", index)
        config = hashlib.sha256(snapshot.config).hexdigest()
        about = {"schema": SCHEMA, "config_sha256": config, "versions": versions()}
        write_json(partial / ABOUT, about)
        write_manifest(partial)
        return index

    def _parent(self) -> Index | None:
        """The checkpoint before the last: of two chains, one outlives any damaged file."""
        if len(self._indices) < 2 or not self._packs.is_worth_building_on(self._indices[-2]):
            return None
        return self._indices[-2]

    def _prune(self) -> None:
        """Keep the newest ones; a damaged one does not count, and goes when it is older than all that do."""
        sound = [step for step in self.steps() if step not in self._damaged][-self.keep :]
        for old in (step for step in self.steps() if step < sound[0]):
            _remove(self.path(old))
        self._packs.prune([index for step in self.steps() if (index := self._readable(step)) is not None])

    def _drop_orphans(self) -> None:
        """Remove packs that no index names; every failed save would leave one more on a full disk.

        Nothing is removed while an index is unreadable: its packs are needed if it can be read later.
        """
        indices = [self._readable(step) for step in self.steps()]
        if None not in indices:
            with suppress(OSError):
                self._packs.prune(index for index in indices if index is not None)

    def _readable(self, env_steps: int) -> Index | None:
        try:
            return _index(self.path(env_steps))
        except CorruptError:
            return None  # it cannot be restored, whatever its blocks


def restore(checkpoint: Path, template: Tree) -> tuple[Tree, dict[str, Any]]:
    """State and host data of a verified checkpoint; ``template`` is a tree of ``ShapeDtypeStruct``."""
    expected = named_leaves(template)
    arrays = restore_named(checkpoint, template)
    leaves = [_typed(arrays[name], leaf) for name, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves), read_json(checkpoint / "host.json")


def restore_named(checkpoint: Path, template: Any, prefix: str = "") -> Arrays:
    """Arrays of a verified checkpoint whose names begin with ``prefix``; those in blocks are read where they do."""
    expected = named_leaves(template)
    schema: Any = about(checkpoint).get("schema")
    added, copied = added_since(schema, expected), copied_since(schema, expected)
    stored = {name_now(schema, n): shape for n, shape in _table(checkpoint / "tree.json").items()}
    dropped = {name: undescribed(shape) for name, shape in stored.items() if is_dropped(schema, name)}
    described = {
        n: describe(leaf) for n, leaf in expected.items() if n in stored or n not in {**added, **copied}
    }
    # Sizes are compared with the configuration's before anything of that size is allocated.
    names = [name for name in {**described, **stored} if name not in dropped]
    if wrong := [name for name in names if described.get(name) != stored.get(name)]:
        name = wrong[0]
        raise CorruptError(
            f"{checkpoint} belongs to another configuration or version: {len(wrong)} arrays differ, first {name}: "
            f"{stored.get(name)} stored, {described.get(name)} expected"
        )
    shapes = {name: dropped.get(name) or _data_shape(expected[name]) for name in stored}
    arrays = _restore_arrays(checkpoint, shapes, schema, prefix)
    # Copies, because no two arrays of a state may share a buffer (donation).
    arrays |= {name: np.array(added[name]) for name in expected if name in added and name not in stored}
    arrays |= {
        name: np.array(arrays[of]) for name, of in copied.items() if of in arrays and name not in stored
    }
    return {name: array for name, array in arrays.items() if name.startswith(prefix) and name not in dropped}


def about(checkpoint: Path) -> dict[str, Any]:
    """Schema, hash of the configuration and versions of a checkpoint."""
    path = checkpoint / ABOUT
    return _table(path) if path.is_file() else {"schema": 1, "versions": {}}  # schema 1 had no versions


def _restore_arrays(checkpoint: Path, shapes: Shapes, schema: int, prefix: str) -> Arrays:
    packs = BlockStore(checkpoint.parent / PACKS)
    index = {name_now(schema, name): places for name, places in _index(checkpoint).items()}
    if odd := sorted(set(index) - set(shapes)):
        raise CorruptError(f"{checkpoint / 'blocks.json'} names {odd[0]}, which tree.json does not")
    arrays = {
        name: packs.read(places, shapes[name].shape, shapes[name].dtype)
        for name, places in index.items()
        if name.startswith(prefix)
    }
    rest = {name: shape for name, shape in shapes.items() if name not in index}
    if schema > LAST_SCHEMA:
        if rest:
            raise CorruptError(f"{checkpoint / 'blocks.json'} does not say where {min(rest)} is")
        return arrays
    return arrays | _in_orbax(checkpoint, shapes, rest, schema)


def _in_orbax(checkpoint: Path, shapes: Shapes, rest: Shapes, schema: int) -> Arrays:
    """The arrays that are in no blocks, of an older schema."""
    folder = checkpoint / "state"
    if schema >= 3:
        return restore_small(folder, rest, schema)
    names = {f"{i:05d}": name for i, name in enumerate(shapes) if name in rest}
    found = restore_small(folder, {key: shapes[name] for key, name in names.items()}, schema)
    return {name: found[key] for key, name in names.items()}


def _index(checkpoint: Path) -> Index:
    path = checkpoint / "blocks.json"
    return decode_index(read_json(path), path) if path.is_file() else {}  # schema 1 had none


def _table(path: Path) -> dict[str, Any]:
    if not isinstance(data := read_json(path), dict):
        raise CorruptError(f"{path} is not a table")
    return data


def _typed(array: Any, leaf: Any) -> jax.Array:
    # Keys are of the default implementation: tree.json has shown that they are those of the template.
    return jr.wrap_key_data(jnp.asarray(array)) if is_key(leaf) else jnp.asarray(array)


def _data(leaf: Any) -> Any:
    return jr.key_data(leaf) if is_key(leaf) else leaf


def _data_shape(leaf: Any) -> Any:
    return jax.eval_shape(jr.key_data, leaf) if is_key(leaf) else leaf


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
