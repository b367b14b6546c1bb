"""State of the host loop of a training."""

from dataclasses import dataclass
from typing import Any

from s5wm.evaluation.result import finite_score
from s5wm.training.curriculum import CurriculumState


@dataclass(frozen=True, kw_only=True)
class HostState:
    """State of the host between chunks; saved as JSON with each checkpoint."""

    env_steps: int = 0
    minutes: float = 0.0  # that the training program ran
    wall_minutes: float = 0.0  # on the clock, compiling, evaluating and saving included
    updates: int = 0  # gradient steps that happened
    best: tuple[float, ...] | None = None  # score of the best evaluation
    curriculum: CurriculumState = CurriculumState()
    failures: tuple[str, ...] = ()  # why training rolled back, until it has got well beyond the last place
    failed_at: int = 0  # env steps of the last one

    @classmethod
    def from_json(cls, data: dict[str, Any], *, weight: float, updates: int) -> "HostState":
        """The inverse of ``dataclasses.asdict`` through JSON.

        Older checkpoints lack ``updates`` and the curriculum's ``weight``; the arguments replace them.
        """
        best = data["best"]
        return cls(
            env_steps=data["env_steps"],
            minutes=data["minutes"],
            wall_minutes=data.get("wall_minutes", data["minutes"]),
            updates=data.get("updates", updates),
            best=None if best is None else tuple(map(finite_score, best)),
            curriculum=CurriculumState.from_json(data["curriculum"], weight=weight),
            failures=tuple(data.get("failures", ())),  # schema 1 had none
            failed_at=data.get("failed_at", 0),
        )
