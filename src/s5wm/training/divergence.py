"""Divergence of a training: report, recorded batch, and limit of retries."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from s5wm.agents.base import NonFiniteGuard
from s5wm.runs.arrays import write_arrays
from s5wm.runs.files import write_json
from s5wm.runs.log import Row
from s5wm.runs.policyfile import named_leaves
from s5wm.training.state import NEVER, NonFiniteReport
from s5wm.types import is_key

SKIPS = 50
"""Consecutive skipped gradient steps that count as divergence."""

ROLLBACKS = 3
"""Roll-backs before a run gives up."""

RATE = 0.5
"""Factor on every learning rate with each roll-back."""


def failure_reason(metrics: Row, guard: NonFiniteGuard, faults: NonFiniteReport, num_envs: int) -> str | None:
    """Why a chunk is rejected, in one sentence; None if it is accepted."""
    for name in ("observation", "reward", "action"):
        first = int(getattr(faults, name))
        if first != NEVER:
            step, env = divmod(first, num_envs)
            whose = "the policy's action for" if name == "action" else f"the {name} of"
            return f"{whose} environment {env} was not finite at step {step} of the chunk"
    if int(guard.longest) >= SKIPS:
        return f"the loss or its gradient was not finite in {int(guard.longest)} gradient steps in a row"
    if bad := [name for name, value in metrics.items() if not math.isfinite(value)]:
        return f"{', '.join(bad)} not finite"
    return None


def keep_debug_state(folder: Path, env_steps: int, reason: str, arrays: Any) -> Path:
    """Save the debug state in ``folder``: arrays in ``.npz``, the reason in ``.json``."""
    plain = {name: np.asarray(_data(leaf)) for name, leaf in named_leaves(jax.device_get(arrays)).items()}
    path = folder / f"{env_steps:012d}.npz"
    write_arrays(path, plain)
    write_json(path.with_suffix(".json"), {"env_steps": env_steps, "reason": reason})
    return path


def _data(leaf: Any) -> Any:
    return jr.key_data(leaf) if is_key(leaf) else leaf
