"""The rung before the race: the shipped preset learns to hold a position, through the product's own entry points."""

from pathlib import Path

import pytest

import s5wm


@pytest.mark.learning
def test_the_preset_learns_to_hover(tmp_path: Path):
    run = s5wm.train("hover", agent="s5wm", size="cpu", seed=0, run=tmp_path / "run")
    assert run.evaluation is not None
    assert run.evaluation["success_rate"] >= 0.9
