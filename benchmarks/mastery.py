"""When a training first reached 90 % success, as far as its evaluations tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

MASTERY = 0.9


@dataclass(frozen=True)
class Mastery:
    """The first evaluation of at least 90 %; what lies between it and the one before is not known."""

    first: dict[str, Any]  # its row of the curve
    before: (
        int | None
    )  # environment steps of the evaluation before; None: the first of all was already so good
    later: int  # evaluations after it
    good_later: int  # of those at 90 % again

    @property
    def is_bound(self) -> bool:
        """Whether the training may have been so good any time before."""
        return self.before is None

    @property
    def share_later(self) -> float | None:
        """Of the evaluations after it; None where there is none."""
        return self.good_later / self.later if self.later else None


def mastery(curve: Sequence[dict[str, Any]]) -> Mastery | None:
    """Of the evaluations of one training, in order; None if none was so good."""
    good = [(row["eval/success"] or 0.0) >= MASTERY for row in curve]
    if not any(good):
        return None
    first = good.index(True)
    before = curve[first - 1]["env_steps"] if first else None
    return Mastery(curve[first], before, len(good) - first - 1, sum(good[first + 1 :]))


def spacing(curve: Sequence[dict[str, Any]]) -> float | None:
    """Environment steps from one evaluation to the next, the median; None of a single evaluation."""
    steps = [row["env_steps"] for row in curve]
    gaps = [after - before for before, after in zip(steps, steps[1:], strict=False)]
    return median(gaps) if gaps else None
