"""Schemas of checkpoints: what an older one lacks, and what it calls otherwise."""

import re
from typing import Any

from s5wm.agents.base import Guard
from s5wm.errors import CorruptError
from s5wm.train.policyfile import named_leaves

SCHEMA = 2
"""1: everything in Orbax.  2: large arrays in blocks, the guard of the gradient steps in every learner, and PPO's actor
around its network."""

_BARE_ACTOR = re.compile(r"^(learner\.(?:params|opt_state\.1\.(?:mu|nu))\.actor)\.(weights|biases)\.")


def added_since(schema: Any) -> dict[str, Any]:
    """Arrays that came after this schema, as a run begins with them."""
    if schema not in range(1, SCHEMA + 1):
        raise CorruptError(f"a checkpoint has schema {schema!r}; this version of s5wm reads 1 to {SCHEMA}")
    if schema == SCHEMA:
        return {}
    return {f"learner.guard.{name}": leaf for name, leaf in named_leaves(Guard.init()).items()}


def name_now(schema: int, name: str) -> str:
    """What this version calls an array of that schema."""
    return _BARE_ACTOR.sub(r"\1.network.\2.", name) if schema == 1 else name
