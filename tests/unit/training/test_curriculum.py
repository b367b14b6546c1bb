from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s5wm.training.curriculum import (
    CurriculumConfig,
    CurriculumState,
    after_chunk,
    after_evaluation,
)

CONFIG = CurriculumConfig(success=0.9, evaluations=3, earliest=0.05, fallback=0.6, ramp=0.1)


def evaluated(*rates: float, share: float = 0.2, config: CurriculumConfig = CONFIG) -> CurriculumState:
    state = CurriculumState()
    for rate in rates:
        state = after_evaluation(config, state, success=rate, share=share)
    return state


def passed_by(state: CurriculumState, *, share: float, used: float = 0.0, **how: Any) -> CurriculumState:
    return after_chunk(how.get("config", CONFIG), state, share=share, used=used)


def test_mastery_needs_successes_in_a_row() -> None:
    assert not evaluated(0.9, 1.0).switched
    assert not evaluated(0.9, 0.89, 0.9, 1.0).switched
    assert evaluated(0.9, 0.95, 1.0) == CurriculumState(passed=3, switched=True, mastered=True)


def test_nothing_switches_before_the_earliest_share_and_mastery_is_kept_until_then() -> None:
    early = evaluated(1.0, 1.0, 1.0, share=0.01)
    assert not early.switched
    assert passed_by(early, share=0.05).mastered


def test_fallback_switches_without_mastery() -> None:
    state = passed_by(CurriculumState(), share=0.59)
    assert not state.switched
    state = passed_by(state, share=0.6)
    assert state.switched
    assert not state.mastered


def test_the_switch_is_latched_and_the_weight_ramps() -> None:
    state = evaluated(1.0, 1.0, 1.0)
    for rate in (0.0, 0.0):
        state = after_evaluation(CONFIG, state, success=rate, share=0.25)
    assert state.switched
    weights = [state.weight]
    for share in (0.25, 0.3, 0.9):
        state = passed_by(state, share=share, used=0.05)
        weights.append(state.weight)
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert passed_by(CurriculumState(), share=0.59, used=0.5).weight == 0.0
    assert evaluated(1.0, 1.0, 1.0, config=replace(CONFIG, ramp=0.0)).weight == 1.0


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**7)), max_size=20))
def test_whatever_budgets_a_run_goes_on_with_the_weight_stays_and_rises(runs: list[tuple[int, int]]) -> None:
    """Each run trains so many steps on, in ten chunks, under another budget."""
    state, steps, weights = CurriculumState(), 0, [0.0]
    for trained, more in runs:
        budget = steps + trained + more
        for _ in range(10):
            before, steps = steps / budget, steps + trained / 10
            state = passed_by(state, share=steps / budget, used=steps / budget - before)
            weights.append(state.weight)
    assert weights == sorted(weights)
    assert 0.0 <= weights[-1] <= 1.0


@pytest.mark.parametrize(
    ("switched", "weight", "now"), [(0.6, -11.8, 0.0), (0.6, 0.4, 0.4), (None, 0.4, 0.0)]
)
def test_a_state_that_remembered_a_share_goes_on_with_the_weight_it_had(
    switched: float | None, weight: float, now: float
) -> None:
    old = {"passed": 1, "switched": switched, "mastered": False}
    state = CurriculumState.from_json(old, weight=weight)
    assert state == CurriculumState(passed=1, switched=switched is not None, weight=now)
    assert CurriculumState.from_json(asdict(state), weight=-5.0) == state


@pytest.mark.parametrize(
    "change", [{"evaluations": 0}, {"earliest": 0.7}, {"earliest": -0.1}, {"ramp": -1.0}]
)
def test_impossible_curricula_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="curriculum"):
        replace(CONFIG, **change)
