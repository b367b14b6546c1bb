"""Where the arrays of a training lie: on one device, or environments and replay divided over several.

Data parallel: ``actor`` and the replay are divided along their leading axis, the environments; parameters and all else
are on every device.  The program is the same, and so are its numbers, up to the order of sums.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from s5wm.errors import ConfigError
from s5wm.ops.batches import AXIS
from s5wm.train.state import TrainState

Tree = TypeVar("Tree")

HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as dead."""


@dataclass(frozen=True)
class Placement:
    """Devices of a training; ``mesh`` is None for the default one, and nothing is placed then."""

    mesh: Mesh | None = None

    @classmethod
    def over(cls, count: int, *, num_envs: int) -> "Placement":
        """The first ``count`` devices, or all of several processes.

        Raises ``ConfigError`` where they are not there or cannot share alike.
        """
        devices = jax.devices()
        if jax.process_count() > 1:
            count = len(devices)
        if not 1 <= count <= len(devices):
            raise ConfigError(
                f"--devices is {count}, but JAX finds {len(devices)} ({devices[0].platform}): "
                f"choose 1 to {len(devices)}"
            )
        if num_envs % count:
            raise ConfigError(
                f"--devices is {count}, which does not divide train.num_envs, {num_envs}: every device steps as many "
                "environments; choose a divisor"
            )
        if count == 1:
            return cls()
        return cls(Mesh(np.array(devices[:count]), (AXIS,), axis_types=(AxisType.Auto,)))

    @contextmanager
    def scope(self) -> Generator[None]:
        """Where programs are traced: batches that they draw are divided, too."""
        if self.mesh is None:
            yield
            return
        with jax.set_mesh(self.mesh):
            yield

    def shardings(self, state: TrainState[Any]) -> Any:
        """One for each array of a state (or of its shapes); None without a mesh."""
        if self.mesh is None:
            return None
        mesh, envs = self.mesh, state.actor.length.shape[0]
        whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))

        def settle(path: Any, leaf: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            per_env = name.startswith(("actor.", "learner.replay."))
            return parts if per_env and leaf.shape[:1] == (envs,) else whole

        return jax.tree_util.tree_map_with_path(settle, state)

    def place(self, state: TrainState[Any]) -> TrainState[Any]:
        """Every array where it belongs; those that are there already stay."""
        return state if self.mesh is None else jax.tree.map(_placed, state, self.shardings(state))

    def local(self, tree: Tree) -> Tree:
        """Arrays that every device has, on the first one of this process alone."""
        return tree if self.mesh is None else jax.tree.map(lambda x: x.addressable_data(0), tree)

    def told(self, number: float) -> float:
        """The leading process's number, in all of them, which wait for each other here."""
        if jax.process_count() == 1:
            return number
        return multihost_utils.broadcast_one_to_all(np.float64(number)).item()

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        if jax.process_count() == 1:
            return flag
        return bool(multihost_utils.process_allgather(np.asarray(flag)).any())

    def fetched(self, tree: Tree) -> Tree:
        """Arrays whole, in the memory of every process."""
        return tree if jax.process_count() == 1 else jax.tree.map(_fetched, tree)


def leads() -> bool:
    """Whether this process is the one that reads the clock, writes files and speaks."""
    return jax.process_index() == 0


def join(coordinator: str, processes: int | None, process: int | None) -> None:
    """Become one of several processes that train together; the others end within a minute of any one's death.

    ``coordinator`` is HOST:PORT of process 0; "auto" where a scheduler (SLURM, Open MPI, Kubernetes) tells all three.
    """
    if coordinator == "auto":
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT)
        return
    if processes is None or process is None:
        raise ConfigError(
            "--coordinator HOST:PORT needs --processes and --process; under a scheduler, use --coordinator auto"
        )
    if not 0 <= process < processes:
        raise ConfigError(
            f"--process is {process}; of --processes {processes} they count from 0 to {processes - 1}"
        )
    jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT)


def _placed(leaf: jax.Array, where: NamedSharding) -> jax.Array:
    if leaf.sharding == where or jax.process_count() == 1:
        return jax.device_put(leaf, where)
    if _is_key(leaf):
        return jr.wrap_key_data(_placed(jr.key_data(leaf), where))
    whole = np.asarray(leaf)  # every process has all of it
    return jax.make_array_from_callback(leaf.shape, where, lambda index: whole[index])


def _fetched(leaf: jax.Array) -> jax.Array:
    if _is_key(leaf):
        return jr.wrap_key_data(_fetched(jr.key_data(leaf)))
    return jnp.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
