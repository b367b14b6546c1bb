"""Means of what episodes say of themselves: over the episodes that say it, and over nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.training.state import NEVER, EpisodeSums, NonFiniteReport, episode_means
from s5wm.types import OptionalMetric

NONE = NonFiniteReport(*(jnp.asarray(NEVER, jnp.int32),) * 3)


def sums(ended: list[bool], gates: list[float], laps: list[float], has_lap: list[bool]) -> EpisodeSums:
    lap = OptionalMetric(value=jnp.asarray(laps), exists=jnp.asarray(has_lap))
    return EpisodeSums.of(jnp.asarray(ended), {"gates": jnp.asarray(gates, jnp.float32), "lap": lap}, NONE)


def test_an_episode_without_a_lap_leaves_the_lap_times_of_others_alone() -> None:
    row = episode_means(
        sums([True, True, True, False], [2, 4, 0, 9], [5.0, 7.0, -1.0, 3.0], [True, True, False, True])
    )
    assert row == {"episode/count": 3.0, "episode/gates": 2.0, "episode/lap": 6.0}


def test_steps_are_added_up_before_anything_is_divided() -> None:
    each = [
        sums([True, True], [1, 3], [5.0, -1.0], [True, False]),
        sums([False, True], [8, 8], [9.0, 8.0], [True, True]),
    ]
    total = jax.tree.map(lambda *parts: jnp.stack(parts), *each).total()
    row = episode_means(total)
    assert row == pytest.approx({"episode/count": 3.0, "episode/gates": 4.0, "episode/lap": 6.5})


def test_what_no_episode_had_is_left_out() -> None:
    row = episode_means(sums([True, False], [1, 2], [np.nan, 5.0], [False, True]))
    assert row == {"episode/count": 1.0, "episode/gates": 1.0}
    assert episode_means(sums([False], [1], [5.0], [True])) == {"episode/count": 0.0}
