"""Multi-process training: join, shut down, broadcast.

The main process, number 0, reads the clock, finds and writes files, and logs.  Every function here except
``is_main_process`` is a barrier; with one process each returns its argument.
"""

import os
import re
import sys
from typing import Any, NoReturn, TypeVar

import jax
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils

from s5wm.errors import ConfigError
from s5wm.types import is_key

Tree = TypeVar("Tree")

HEARTBEAT = 30
"""Seconds without a heartbeat after which a process counts as dead and the others exit."""

PATIENCE = 3600
"""Seconds that other processes wait for the main process to finish writing."""

AUTO = "auto"


def join(coordinator: str, processes: int | None, process: int | None) -> None:
    """Join a multi-process training; call it before any computation.

    ``coordinator`` is HOST:PORT of process 0, or "auto" where a scheduler sets all three.  Raises ``ConfigError``.
    """
    if coordinator == AUTO:
        if processes is not None or process is not None:
            raise ConfigError("--coordinator auto asks the scheduler; leave out --processes and --process")
    elif not re.fullmatch(r"\S+:\d{1,5}", coordinator):
        raise ConfigError(f"--coordinator is {coordinator!r}; it must be HOST:PORT of process 0, or auto")
    elif processes is None or process is None:
        raise ConfigError(
            "--coordinator HOST:PORT needs --processes and --process; under a scheduler, use --coordinator auto"
        )
    elif processes < 1:
        raise ConfigError(f"--processes is {processes}; it must be at least 1")
    elif not 0 <= process < processes:
        raise ConfigError(
            f"--process is {process}; of --processes {processes} they count from 0 to {processes - 1}"
        )
    # Its handler of SIGTERM would swallow the signal before training has one of its own.
    jax.config.update("jax_enable_preemption_service", False)
    address = None if coordinator == AUTO else coordinator
    try:
        jax.distributed.initialize(
            address,
            processes,
            process,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=PATIENCE,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot join the others by --coordinator {coordinator}: {error}") from error


def shutdown() -> None:
    """Leave a multi-process training, after the main process has finished."""
    if is_joined():
        jax.distributed.shutdown()


def is_joined() -> bool:
    """Whether others wait for this process."""
    return jax.distributed.is_initialized()


def end(code: int) -> NoReturn:
    """Exit; at once if others wait for this process, so that they notice."""
    if is_joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def is_main_process() -> bool:
    """Whether this is the main process, or the only one."""
    return jax.process_index() == 0


def from_main_process(number: float) -> float:
    """Broadcast a number of the main process, bitwise."""
    if jax.process_count() == 1:
        return number
    octets = np.frombuffer(
        np.float64(number).tobytes(), np.uint8
    )  # as a number, JAX would round it to float32
    return np.frombuffer(np.asarray(multihost_utils.broadcast_one_to_all(octets)).tobytes()).item()


def in_any(flag: bool) -> bool:
    """Whether ``flag`` is true in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def gathered(tree: Tree) -> Tree:
    """Gather sharded arrays into host memory."""
    return tree if jax.process_count() == 1 else jax.tree.map(_gathered, tree)


def _gathered(leaf: jax.Array) -> Any:
    if is_key(leaf):
        return jr.wrap_key_data(_gathered(jr.key_data(leaf)))
    if leaf.is_fully_replicated:
        return np.asarray(leaf.addressable_data(0))
    return multihost_utils.process_allgather(leaf, tiled=True)
