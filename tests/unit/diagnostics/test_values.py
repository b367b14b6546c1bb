import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.diagnostics.values import calibrate, realised_return
from s5wm.types import Reward, TimeStep


def flown(reward: list[float], last: list[int], terminal: list[int]) -> TimeStep:
    length = len(reward)
    rows = np.arange(length)
    first = np.isin(rows - 1, last)
    return TimeStep(
        obs=jnp.zeros((length, 1)),
        privileged=jnp.zeros((length, 1)),
        reward=Reward(jnp.asarray(reward), jnp.ones(length)),
        is_first=jnp.asarray(first),
        is_last=jnp.asarray(np.isin(rows, last)),
        is_terminal=jnp.asarray(np.isin(rows, terminal)),
    )


def test_returns_by_hand() -> None:
    # Rows 0-2 end in a crash, 3-5 in a truncation, 6-7 are cut off.
    step = flown([9.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0], last=[2, 5], terminal=[2])
    value = jnp.asarray([7.0, 7.0, 7.0, 7.0, 7.0, 10.0, 7.0, 20.0])
    found = realised_return(step.reward.nominal, value, step, 0.5)
    known = np.asarray([0, 1, 3, 4, 6])
    assert np.asarray(found)[known] == pytest.approx([1 + 0.5 * 2, 2, 3 + 0.5 * (4 + 5), 4 + 5, 5 + 10])


def test_a_critic_that_knows_is_calibrated() -> None:
    step = flown([9.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0], last=[2, 5], terminal=[2])
    # At weight 0.5 every reward is 0.5 more; the values of the last two episodes bootstrap from 10 and 20.
    knows = jnp.asarray([1.5 + 0.5 * 2.5, 2.5, 99.0, 3.5 + 0.5 * 9.5, 9.5, 10.0, 15.5, 20.0])
    batched = TimeStep(
        obs=step.obs[None],
        privileged=step.privileged[None],
        reward=Reward(step.reward.nominal[None], step.reward.smoothing[None]),
        is_first=step.is_first[None],
        is_last=step.is_last[None],
        is_terminal=step.is_terminal[None],
    )
    found = calibrate(knows[None], batched, smoothing_weight=jnp.asarray(0.5), discount=0.5)
    assert found.everywhere.count == 5
    assert found.everywhere.r2 == pytest.approx(1.0)
    assert found.everywhere.bias == pytest.approx(0.0, abs=1e-6)
    assert found.before_crash.count == 2
    without = calibrate(knows[None], batched, smoothing_weight=jnp.asarray(0.0), discount=0.5)
    assert without.everywhere.r2 < 0.999
