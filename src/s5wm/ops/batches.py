"""Data parallelism inside a compiled program: sharding of batches over the devices of a mesh."""

from typing import TypeVar

import jax
from jax.sharding import PartitionSpec

from s5wm.errors import ConfigError

Tree = TypeVar("Tree")

AXIS = "envs"
"""Name of the only axis of the mesh: environments and batches."""


def shard_batch(batch: Tree) -> Tree:
    """Shard the leading axis of each array over the mesh that the program is traced for; a no-op without a mesh.

    To be put where a batch has been gathered from all devices: from there on each computes its part, and the values
    stay the same.  Raises ``ConfigError`` for a batch that does not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return batch
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % mesh.size:
        raise ConfigError(
            f"a batch of {size} (of the replay, of imagination starts or of a minibatch) cannot be divided over "
            f"{mesh.size} devices; make it a multiple, or take fewer devices"
        )
    return jax.lax.with_sharding_constraint(batch, PartitionSpec(AXIS))
