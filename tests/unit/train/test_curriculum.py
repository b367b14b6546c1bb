from dataclasses import replace

import pytest

from s5wm.train.curriculum import (
    CurriculumConfig,
    CurriculumState,
    after_chunk,
    after_evaluation,
    smoothing_weight,
)

CONFIG = CurriculumConfig(success=0.9, evaluations=3, laps=None, earliest=0.05, fallback=0.6, ramp=0.1)


def evaluated(*rates: float, share: float = 0.2, config: CurriculumConfig = CONFIG) -> CurriculumState:
    state = CurriculumState()
    for rate in rates:
        state = after_evaluation(config, state, success=rate, share=share)
    return state


def test_mastery_needs_successes_in_a_row() -> None:
    assert evaluated(0.9, 1.0).switched is None
    assert evaluated(0.9, 0.89, 0.9, 1.0).switched is None
    switched = evaluated(0.9, 0.95, 1.0)
    assert switched.switched == 0.2
    assert switched.mastered


def test_nothing_switches_before_the_earliest_share_and_mastery_is_kept_until_then() -> None:
    early = evaluated(1.0, 1.0, 1.0, share=0.01)
    assert early.switched is None
    assert after_chunk(CONFIG, early, laps=None, share=0.05).switched == 0.05


def test_fallback_switches_without_mastery() -> None:
    state = after_chunk(CONFIG, CurriculumState(), laps=None, share=0.59)
    assert state.switched is None
    state = after_chunk(CONFIG, state, laps=None, share=0.6)
    assert state.switched == 0.6
    assert not state.mastered


def test_laps_of_training_episodes_switch_only_where_asked_for() -> None:
    assert after_chunk(CONFIG, CurriculumState(), laps=5.0, share=0.3).switched is None
    config = replace(CONFIG, laps=1.0)
    assert after_chunk(config, CurriculumState(), laps=0.99, share=0.3).switched is None
    assert after_chunk(config, CurriculumState(), laps=None, share=0.3).switched is None
    assert after_chunk(config, CurriculumState(), laps=1.0, share=0.3).mastered


def test_the_switch_is_latched_and_the_weight_ramps() -> None:
    state = evaluated(1.0, 1.0, 1.0)
    for rate in (0.0, 0.0):
        state = after_evaluation(CONFIG, state, success=rate, share=0.25)
    state = after_chunk(CONFIG, state, laps=0.0, share=0.9)
    assert state.switched == 0.2
    weights = [smoothing_weight(CONFIG, state, share=share) for share in (0.2, 0.25, 0.3, 0.9)]
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert smoothing_weight(CONFIG, CurriculumState(), share=1.0) == 0.0
    assert smoothing_weight(replace(CONFIG, ramp=0.0), state, share=0.2) == 1.0


@pytest.mark.parametrize(
    "change", [{"evaluations": 0}, {"earliest": 0.7}, {"earliest": -0.1}, {"ramp": -1.0}]
)
def test_impossible_curricula_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="curriculum"):
        replace(CONFIG, **change)
