"""Whether a training fits into memory, checked before anything is allocated."""

import math
import resource
from pathlib import Path
from typing import Any

import jax
import jax.random as jr

from s5wm.errors import ConfigError
from s5wm.types import is_key

HEADROOM = 0.9
"""Share of the free memory that the training state may take; the rest is for the compiled program."""

GROUP = Path("/sys/fs/cgroup")

GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and the line of ``memory.stat`` with what the kernel may drop: of control groups 2 and 1."""


def tree_bytes(tree: Any, shardings: Any = None) -> int:
    """Size in bytes of a tree of arrays or shapes; per device if sharded."""
    leaves = jax.tree.leaves(tree)
    places = [None] * len(leaves) if shardings is None else jax.tree.leaves(shardings)
    return sum(_leaf_bytes(leaf, place) for leaf, place in zip(leaves, places, strict=True))


def check_memory(state: Any, shardings: Any = None, *, seeds: int = 1) -> None:
    """Raises ``ConfigError`` with both sizes if a state of these shapes does not fit, or those of several seeds.

    ``shardings`` divide it over devices (a tree, see ``Placement``); those of a CPU share its memory.
    """
    size, free = seeds * tree_bytes(state, None if _is_cpu() else shardings), free_bytes()
    # While a checkpoint is written, a copy of the state lies in the memory of the host; states that are trained
    # together are stacked in a copy, too.
    needed = size * (1 + _is_cpu() + (seeds > 1))
    if free is not None and needed > HEADROOM * free:
        largest = max(jax.tree_util.tree_leaves_with_path(state), key=lambda item: _leaf_bytes(item[1]))
        name = jax.tree_util.keystr(largest[0], simple=True, separator=".")
        what = "the training state takes" if seeds == 1 else f"the training states of {seeds} seeds take"
        raise ConfigError(
            f"{what} {size / 1e9:.1f} GB, {needed / 1e9:.1f} GB with copies (largest: {name}, "
            f"{_leaf_bytes(largest[1]) / 1e9:.1f} GB whole), and {free / 1e9:.1f} GB are free; "
            "lower agent.replay.capacity or train.num_envs"
            + (", or train fewer seeds together" if seeds > 1 else "")
        )


def replay_line(state: Any, shardings: Any = None, *, seeds: int = 1) -> str | None:
    """``replay X GB of Y GB free``; None without a replay, or where the device does not report what is free."""
    paths = jax.tree_util.tree_leaves_with_path(state)
    places = [None] * len(paths) if shardings is None or _is_cpu() else jax.tree.leaves(shardings)
    found = [
        _leaf_bytes(leaf, place)
        for (path, leaf), place in zip(paths, places, strict=True)
        if "replay" in jax.tree_util.keystr(path, simple=True, separator=".")
    ]
    free = free_bytes()
    if not found or free is None:
        return None
    return f"replay {seeds * sum(found) / 1e9:.2f} GB of {free / 1e9:.1f} GB free"


def free_bytes() -> int | None:
    """Free memory of the device that computes; None where it does not report it."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    sizes = [f for f in (_system_free(), _group_free(), _address_space_free()) if f is not None]
    return min(sizes, default=None)


def _system_free() -> int | None:
    info = Path("/proc/meminfo")
    lines = info.read_text(encoding="ascii").splitlines() if info.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group_free() -> int | None:
    """Memory that the control group of a container leaves; None without one."""
    return next((free for files in GROUP_FILES if (free := _left_in(*files)) is not None), None)


def _left_in(limit: str, used: str, dropped: str) -> int | None:
    """Limit of a control group less its use; what was read from files counts as free, as in ``MemAvailable``."""
    try:
        allowed, taken = (int((GROUP / name).read_text(encoding="ascii")) for name in (limit, used))
        stat = (GROUP / used).with_name("memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return None
    cached = next((int(line.split()[1]) for line in stat.splitlines() if line.split()[0] == dropped), 0)
    return allowed - max(taken - cached, 0)


def _address_space_free() -> int | None:
    """Memory that ``ulimit -v`` leaves, which schedulers set; None without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    sizes = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not sizes.is_file():
        return None
    return limit - int(sizes.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _leaf_bytes(leaf: Any, sharding: Any = None) -> int:
    if is_key(leaf):
        leaf, sharding = jax.eval_shape(jr.key_data, leaf), None
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize


def _is_cpu() -> bool:
    return jax.devices()[0].platform == "cpu"
