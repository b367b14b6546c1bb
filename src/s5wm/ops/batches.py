"""Data parallelism inside a compiled program: which arrays are divided over the devices of a mesh."""

from typing import TypeVar

import jax
from jax.sharding import PartitionSpec

Tree = TypeVar("Tree")

AXIS = "envs"
"""Name of the mesh's one axis: environments, and batches drawn from what they showed."""


def divided(batch: Tree) -> Tree:
    """Each array's leading axis over the devices of the mesh that the program is compiled for.

    Values stay the same, and so does everything where there is no mesh or the axis does not divide.  To be put where a
    batch is gathered from all devices: from there on each computes its part.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return batch
    whole, parts = PartitionSpec(), PartitionSpec(AXIS)
    return jax.tree.map(
        lambda x: jax.lax.with_sharding_constraint(x, whole if x.shape[0] % mesh.size else parts), batch
    )
