"""Whether JAX can be used in this process: it hangs in a fork of a process that has used it.

Gymnasium's ``AsyncVectorEnv`` forks its workers by default.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any


@dataclass
class _Past:
    """State of the process that forked this one."""

    used_here: bool = False  # before the fork that is being made
    used_by_parent: bool = False


_past = _Past()


def _look() -> None:
    bridge: Any = sys.modules.get("jax._src.xla_bridge")
    _past.used_here = bridge is not None and bool(bridge.backends_are_initialized())


def _remember() -> None:
    _past.used_by_parent = _past.used_by_parent or _past.used_here


os.register_at_fork(before=_look, after_in_child=_remember)


def check_fork() -> None:
    """Raises ``RuntimeError`` where JAX would hang, with what to do instead."""
    if _past.used_by_parent:
        raise RuntimeError(
            "this process was forked from one in which JAX had been used already, and would hang: give "
            'context="spawn", as in gymnasium.make_vec(ID, N, vectorization_mode="async", vector_kwargs={"context": '
            '"spawn"}), or leave out vectorization_mode: one program then steps all environments, and faster'
        )
