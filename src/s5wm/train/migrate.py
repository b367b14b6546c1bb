"""Schemas of checkpoints, and what an older one lacks."""

from typing import Any

from s5wm.agents.base import Guard
from s5wm.errors import CorruptError
from s5wm.train.policyfile import named_leaves

SCHEMA = 2
"""1: everything in Orbax.  2: large arrays in blocks, and the guard of the gradient steps in every learner."""


def added_since(schema: Any) -> dict[str, Any]:
    """Arrays that came after this schema, as a run begins with them."""
    if schema not in range(1, SCHEMA + 1):
        raise CorruptError(f"a checkpoint has schema {schema!r}; this version of s5wm reads 1 to {SCHEMA}")
    if schema == SCHEMA:
        return {}
    return {f"learner.guard.{name}": leaf for name, leaf in named_leaves(Guard.init()).items()}
