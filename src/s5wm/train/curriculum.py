"""When the smoothing reward joins the value target.

The world model predicts both reward components from the first step; only the weight ``w`` in
``r_nominal + w r_smoothing`` waits until the task is mastered.  The switch is latched: once on, ``w`` ramps to one
and never comes back.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """What counts as mastery; shares are of the training's budget."""

    success: float = 0.9  # least success rate of an evaluation that counts
    evaluations: int = 3  # so many of them in a row switch
    laps: float | None = None  # a mean of laps per training episode that switches too (cheaper, noisier)
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
    """What the curriculum remembers; saved with every checkpoint."""

    passed: int = 0  # successful evaluations in a row
    switched: float | None = None  # share of the budget at which the weight began to rise
    mastered: bool = False  # False after a switch: it was the fallback


def after_evaluation(
    config: CurriculumConfig, state: CurriculumState, *, success: float, share: float
) -> CurriculumState:
    """The state after an evaluation with this success rate, ``share`` of the budget being used."""
    state = replace(state, passed=state.passed + 1 if success >= config.success else 0)
    return _switch(state, share) if _is_time(config, state, share) and _has_passed(config, state) else state


def after_chunk(
    config: CurriculumConfig, state: CurriculumState, *, laps: float | None, share: float
) -> CurriculumState:
    """The state after a chunk whose training episodes flew ``laps`` on average (None: the task has no laps)."""
    if not _is_time(config, state, share):
        return state
    if _has_passed(config, state):
        return _switch(state, share)
    if config.laps is not None and laps is not None and laps >= config.laps:
        return _switch(state, share)
    if share >= config.fallback:
        return replace(state, switched=share)
    return state


def smoothing_weight(config: CurriculumConfig, state: CurriculumState, *, share: float) -> float:
    """``w`` in [0, 1]."""
    if state.switched is None:
        return 0.0
    since = share - state.switched
    return 1.0 if since >= config.ramp else since / config.ramp


def _is_time(config: CurriculumConfig, state: CurriculumState, share: float) -> bool:
    return state.switched is None and share >= config.earliest


def _has_passed(config: CurriculumConfig, state: CurriculumState) -> bool:
    return state.passed >= config.evaluations


def _switch(state: CurriculumState, share: float) -> CurriculumState:
    return replace(state, switched=share, mastered=True)
