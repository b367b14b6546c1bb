"""Placement of a training state: on one device, or environments and replay sharded over several.

Data parallel: ``actor`` and the replay are divided along their leading axis, the environments; parameters and all else
are on every device.  The program is the same, and so are its numbers, up to the order of sums.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.random as jr
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from s5wm.errors import ConfigError
from s5wm.ops.batches import AXIS
from s5wm.types import is_key

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Placement:
    """Devices of a training; without a ``mesh`` arrays stay on the default device."""

    mesh: Mesh | None = None

    @classmethod
    def over(cls, count: int, *, num_envs: int) -> "Placement":
        """The first ``count`` devices, or all of several processes.

        Raises ``ConfigError`` where they are not there or cannot share alike.
        """
        devices = jax.devices()
        asked = f"--devices is {count}"
        if jax.process_count() > 1:
            if count != 1:
                raise ConfigError(f"{asked}, but of several processes all devices take part; leave it out")
            count = len(devices)
            asked = f"all processes together have {count} devices"
            if jax.local_device_count() * jax.process_count() != count:
                raise ConfigError(
                    f"{asked}, of which this one has {jax.local_device_count()}; give every process as many"
                )
        if not 1 <= count <= len(devices):
            raise ConfigError(
                f"{asked}, but JAX finds {len(devices)} ({devices[0].platform}): choose 1 to {len(devices)}"
            )
        if num_envs % count:
            raise ConfigError(
                f"{asked}, which does not divide train.num_envs, {num_envs}: every device steps as many "
                "environments; choose a divisor"
            )
        if count == 1:
            return cls()
        return cls(Mesh(np.array(devices[:count]), (AXIS,), axis_types=(AxisType.Auto,)))

    @contextmanager
    def scope(self) -> Generator[None]:
        """Context for tracing programs: batches that they sample are sharded, too."""
        if self.mesh is None:
            yield
            return
        with jax.set_mesh(self.mesh):
            yield

    def shardings(self, state: Any) -> Any:
        """A sharding for each array of a ``TrainState`` (or of its shapes); None without a mesh."""
        if self.mesh is None:
            return None
        mesh, envs = self.mesh, state.actor.length.shape[0]
        whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))

        def settle(path: Any, leaf: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            per_env = name.startswith(("actor.", "learner.replay."))
            return parts if per_env and leaf.shape[:1] == (envs,) else whole

        return jax.tree_util.tree_map_with_path(settle, state)

    def local(self, tree: Tree) -> Tree:
        """Replicated arrays, as the first device of this process holds them."""
        return tree if self.mesh is None else jax.tree.map(lambda x: x.addressable_data(0), tree)


def place(tree: Tree, shardings: Any) -> Tree:
    """Move each array to its sharding; no-op if it is already there or ``shardings`` is None.

    With several processes each must hold the whole arrays.
    """
    return tree if shardings is None else jax.tree.map(_placed, tree, shardings)


def _placed(leaf: jax.Array, where: NamedSharding) -> jax.Array:
    if leaf.sharding == where or jax.process_count() == 1:
        return jax.device_put(leaf, where)
    if is_key(leaf):
        return jr.wrap_key_data(_placed(jr.key_data(leaf), where))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, where, lambda index: whole[index])
