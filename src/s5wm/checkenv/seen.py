"""What an environment showed while it was checked, in words."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from s5wm.actions import ActionSpec, Box
from s5wm.envs.adapters.tasks import EVAL_STEPS as EVAL_STEPS
from s5wm.types import EnvSpec


@dataclass
class Seen:
    """Filled while an environment is stepped."""

    limit: int | None  # steps of its longest episode, where that is known
    renders: bool = False
    lengths: list[int] = field(default_factory=list[int])  # of episodes that ended
    rewards: list[float] = field(default_factory=list[float])
    reported: dict[str, None] = field(default_factory=dict[str, None])  # names, in order

    def facts(self) -> dict[str, str]:
        """What is known, by name."""
        facts: dict[str, str] = {}
        limit = "" if self.limit is None else f"at most {self.limit:,} steps"
        ends = f"ended after {_span(self.lengths, ',')} steps" if self.lengths else ""
        if limit or ends:
            facts["episodes"] = ", ".join(each for each in (limit, ends) if each)
        if self.rewards:
            facts["rewards"] = f"{_span(self.rewards, '.4g')} with random actions"
        facts["reports"] = ", ".join(["return", "length", *self.reported])
        if self.renders:
            facts["renders"] = "pictures, as s5wm eval --video needs them"
        return facts

    def endless(self, steps: int, remedy: str) -> str:
        """The problem of an environment that did not end in ``steps``."""
        return (
            f"no episode ended in {steps:,} steps, and every episode of an evaluation would take {EVAL_STEPS:,}: give "
            f"it a time limit ({remedy})"
        )


def _span(values: Iterable[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def spec_in_words(spec: EnvSpec) -> dict[str, str]:
    """What agents see and choose, by name."""
    image = f"image of {' x '.join(map(str, spec.obs_shape))}" if spec.has_images else ""
    size = spec.vector_size if spec.has_images else spec.obs_numbers
    facts = {"observation": " and ".join(each for each in (image, _counted(size)) if each)}
    if spec.obs_names:
        facts["names"] = ", ".join(spec.obs_names)
    if spec.privileged_size:
        facts["privileged"] = _counted(spec.privileged_size)
    return facts | {"action": _action(spec.action), "step": f"{spec.ctrl_dt:g} s"}


def _action(spec: ActionSpec) -> str:
    if not isinstance(spec, Box):
        return "one of " + " and one of ".join(f"{n} choices" for n in spec.groups)
    low, high = (np.broadcast_to(np.asarray(bound, float), (spec.width,)) for bound in spec.bounds)
    ranges = [f"[{a:g}, {b:g}]" for a, b in zip(low, high, strict=True)]
    return f"{_counted(spec.width)} in {ranges[0] if len(set(ranges)) == 1 else ', '.join(ranges)}"


def _counted(size: int) -> str:
    return "" if not size else "1 number" if size == 1 else f"{size:,} numbers"
