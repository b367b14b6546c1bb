"""Migration of checkpoints of older schemas: arrays that are new, gone or renamed."""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s5wm.errors import CorruptError

SCHEMA = 7
"""1: everything in Orbax.  2: large arrays in blocks, the guard of the gradient steps in every learner, and PPO's actor
around its network.  3: Dreamer's learner knows which batch it skipped last; Orbax holds the small arrays end
to end, one array for each type.  4: a flight knows its tightest pass.  5: other names of arrays, and no
priorities in the replay.  6: all arrays in blocks, none in Orbax.  7: a race remembers the action with each state in
which a flight may begin, and a quadrotor the inertia that its rate controller assumes."""

NEW_GUARD: dict[str, NDArray[Any]] = {
    "rate": np.ones((), np.float32),
    "schedule": np.ones((), np.float32),
    "skipped": np.zeros((), np.int32),
    "in_a_row": np.zeros((), np.int32),
    "longest": np.zeros((), np.int32),
}
"""The guard of the gradient steps before the first of them."""

HALF_OPENING = 0.75
"""m, of every gate up to schema 3."""

_BARE_ACTOR = re.compile(r"^(learner\.(?:params|opt_state\.1\.(?:mu|nu))\.actor)\.(weights|biases)\.")


_RENAMED = [
    (re.compile(before), now)
    for before, now in (
        (r"^network(?=\.)", "actor.network"),
        (r"^(learner\.)?acting(?=\.)", r"\1policy_ema"),
        (r"^(learner\.)?suspect(?=\.)", r"\1skipped_batch"),
        (r"(?<=\.)switch_head(?=\.)", "mixture_logits_head"),
        (r"(?<=\.core\.)look(?=\.)", "hidden"),
        (r"(?<=\.core\.)look_norm(?=\.)", "hidden_norm"),
        (r"(?<=\.core\.)mix(?=\.)", "dyn"),
        (r"(?<=\.core\.)mix_look$", "dyn_hidden"),
        (r"(?<=\.core\.)mix_input(?=\.)", "dyn_input"),
        (r"(?<=\.core\.)mix_norm(?=\.)", "dyn_norm"),
    )
]


def added_since(schema: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """Initial values of ``expected`` arrays that this schema lacks."""
    if schema not in range(1, SCHEMA + 1):
        raise CorruptError(f"a checkpoint has schema {schema!r}; this version of s5wm reads 1 to {SCHEMA}")
    added: dict[str, Any] = {}
    if schema < 2:
        added |= {f"learner.guard.{name}": leaf for name, leaf in NEW_GUARD.items()}
    if schema < 3:
        suspects = (name for name in expected if name.startswith("learner.skipped_batch."))
        added |= {name: np.full(expected[name].shape, -1, expected[name].dtype) for name in suspects}  # none
    if schema < 4:
        # Until the next pass, of this episode, the margin is that of no pass at all.
        margins = (name for name in expected if name == "actor.env_state.inner.margin")
        added |= {name: np.full(expected[name].shape, HALF_OPENING, np.float32) for name in margins}
    if schema < 7:
        # The middle of the range, until a gate is passed again.
        actions = (name for name in expected if name.endswith(".buffer.actions"))
        added |= {name: np.zeros(expected[name].shape, np.float32) for name in actions}
    return added


def copied_since(schema: int, expected: Collection[str]) -> dict[str, str]:
    """Of ``expected`` arrays that this schema lacks, those that begin as copies of another one, with its name."""
    if schema >= 7:
        return {}
    end = ".assumed_inertia"  # gains were scaled by the true inertia, whose controller flies on until the next draw
    return {name: name.removesuffix(end) + ".inertia" for name in expected if name.endswith(end)}


def name_now(schema: int, name: str) -> str:
    """Present name of an array of that schema."""
    if schema == 1:
        name = _BARE_ACTOR.sub(r"\1.network.\2.", name)
    return renamed(name) if schema < 5 else name


def renamed(name: str) -> str:
    """Present name of an array of a checkpoint, a policy or a start of up to schema 4."""
    for before, now in _RENAMED:
        name = before.sub(now, name)
    return name


def is_dropped(schema: int, name: str) -> bool:
    """Whether this array is gone."""
    return schema < 5 and name == "learner.replay.surprise"
