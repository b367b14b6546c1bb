"""When the smoothing reward joins the value target.

The world model predicts both reward components from the first step; only the weight ``w`` in
``r_nominal + w r_smoothing`` waits until the task is mastered.  The switch is latched: once on, ``w`` rises to one
and never falls.  The weight itself is remembered, never a share of the budget, because a run may go on with another
budget: what was reached stays, and the rest of the ramp takes its share of the new one.
"""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Thresholds of mastery; shares are of the present budget."""

    success: float = 0.9  # least success rate of an evaluation that counts
    evaluations: int = 3  # so many of them in a row switch
    earliest: float = 0.05  # share before which nothing switches
    fallback: float = 0.6  # share at which it switches without mastery
    ramp: float = 0.05  # share over which the weight goes from 0 to 1

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise ValueError(f"curriculum.evaluations is {self.evaluations}; it must be at least 1")
        if not 0 <= self.earliest <= self.fallback:
            raise ValueError(
                f"curriculum.earliest is {self.earliest} and fallback {self.fallback}; "
                "give 0 <= earliest <= fallback (a fallback above 1 never comes)"
            )
        if not self.ramp >= 0:
            raise ValueError(f"curriculum.ramp is {self.ramp}; give 0 for a jump, else the share it takes")


@dataclass(frozen=True, kw_only=True)
class CurriculumState:
    """State of the curriculum; saved with every checkpoint."""

    passed: int = 0  # successful evaluations in a row
    switched: bool = False  # whether the weight rises
    mastered: bool = False  # False after a switch: it was the fallback
    weight: float = 0.0  # of the smoothing reward, in [0, 1]

    @classmethod
    def from_json(cls, data: dict[str, Any], *, weight: float) -> "CurriculumState":
        """The inverse of ``dataclasses.asdict`` through JSON.

        Checkpoints of before remembered, in place of the weight, the share of the budget at which it began to rise.
        They go on from ``weight``, that of the chunk before the checkpoint.
        """
        if "weight" in data:
            return cls(**data)
        switched = data["switched"] is not None
        weight = min(max(weight, 0.0), 1.0) if switched else 0.0
        return cls(passed=data["passed"], switched=switched, mastered=data["mastered"], weight=weight)


def after_evaluation(
    config: CurriculumConfig, state: CurriculumState, *, success: float, share: float
) -> CurriculumState:
    """The state after an evaluation with this success rate, ``share`` of the budget being used."""
    state = replace(state, passed=state.passed + 1 if success >= config.success else 0)
    return _switch(config, state) if _is_time(config, state, share) and _has_passed(config, state) else state


def after_chunk(
    config: CurriculumConfig, state: CurriculumState, *, share: float, used: float
) -> CurriculumState:
    """The state after a chunk that used the share ``used`` of the budget, ``share`` of it being used by now."""
    if state.switched:
        risen = state.weight + used / config.ramp if config.ramp > 0.0 else 1.0
        return replace(state, weight=min(max(risen, state.weight), 1.0))
    if not _is_time(config, state, share):
        return state
    if _has_passed(config, state):
        return _switch(config, state)
    if share >= config.fallback:
        return replace(_switch(config, state), mastered=False)
    return state


def _is_time(config: CurriculumConfig, state: CurriculumState, share: float) -> bool:
    return not state.switched and share >= config.earliest


def _has_passed(config: CurriculumConfig, state: CurriculumState) -> bool:
    return state.passed >= config.evaluations


def _switch(config: CurriculumConfig, state: CurriculumState) -> CurriculumState:
    return replace(state, switched=True, mastered=True, weight=0.0 if config.ramp > 0.0 else 1.0)
