"""Measured on a model that knows its environment exactly: every error is zero, unless rows are misaligned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.dreamer.agent import Dreamer, DreamerLearner
from s5wm.diagnostics import Diagnosis, report
from s5wm.types import Transition

from .oracle import ENVS, HORIZON, LENGTH, STEPS, collect

pytestmark = pytest.mark.slow  # one compile of the whole report

Flights = tuple[Dreamer, DreamerLearner, Transition]


@pytest.fixture(scope="module")
def flights() -> Flights:
    return collect()


def measure(flights: Flights) -> Diagnosis:
    agent, learner, rows = flights
    with jax.debug_nans(True), jax.debug_infs(True):  # what is not known is no NaN of compiled code
        return report(agent, learner, rows, HORIZON, jr.key(0))


def test_an_oracle_makes_no_error(flights: Flights) -> None:
    found = measure(flights)
    band = found.open_loop.of("number_0")
    assert np.all(band.hi[:STEPS] < 1e-4)
    assert np.all(found.reconstruction.of("number_0").hi < 1e-5)
    assert np.all(found.reward.error.hi[:STEPS] < 1e-3)
    assert np.all(found.reward.step.r2[:STEPS] > 0.999)
    assert np.all(found.reward.total.r2[:STEPS] > 0.999)
    assert np.all(np.abs(found.reward.total.bias[:STEPS]) < 1e-3)


def test_an_oracle_foresees_the_end(flights: Flights) -> None:
    events = measure(flights).events
    assert events.terminations.lead == (0, 1, 5, 10)
    assert np.all(events.terminations.count[:3] > 5)
    assert np.all(events.terminal_auc[:3] > 0.999)
    assert np.all(events.terminations.terminal_predicted[:3] > events.others.terminal_predicted[:3] + 0.1)
    assert events.terminations.reward_predicted[:3] == pytest.approx(
        np.asarray(events.terminations.reward_real[:3]), abs=1e-3
    )
    assert np.all(events.goal_changes.count == 0)
    assert np.isnan(events.goal_changes.reward_real).all()


def test_no_prediction_crosses_the_start_of_an_episode(flights: Flights) -> None:
    found = measure(flights)
    is_first = np.asarray(flights[2].timestep.is_first)[:, 1:]
    expected = [
        sum(not is_first[b, t + 1 : t + k + 1].any() for b in range(ENVS) for t in range(LENGTH - k))
        for k in range(1, HORIZON + 1)
    ]
    assert found.reward.step.count.tolist() == expected
    assert expected[STEPS - 1] > 0
    assert expected[STEPS] == 0
    assert np.isnan(found.open_loop.of("number_0").median[STEPS:]).all()


def shift_actions(rows: Transition) -> Transition:
    return eqx.tree_at(lambda r: r.action, rows, jnp.roll(rows.action, 1, axis=1))


def shift_rewards(rows: Transition) -> Transition:
    nominal = rows.timestep.reward.nominal
    return eqx.tree_at(lambda r: r.timestep.reward.nominal, rows, jnp.roll(nominal, 1, axis=1))


def shift_ends(rows: Transition) -> Transition:
    return eqx.tree_at(lambda r: r.timestep.is_terminal, rows, jnp.roll(rows.timestep.is_terminal, 1, axis=1))


def test_rows_out_of_step_show(flights: Flights) -> None:
    agent, learner, rows = flights
    late_actions = measure((agent, learner, shift_actions(rows)))
    assert np.all(late_actions.open_loop.of("number_1").median[:STEPS] > 1e-2)
    late_rewards = measure((agent, learner, shift_rewards(rows)))
    assert np.all(late_rewards.reward.error.hi[:STEPS] > 1e-2)
    assert np.all(late_rewards.open_loop.of("number_0").hi[:STEPS] < 1e-4)
    late_ends = measure((agent, learner, shift_ends(rows)))
    assert np.all(late_ends.events.terminal_auc[:3] < 0.99)


def test_the_log_is_flat_and_complete(flights: Flights) -> None:
    metrics = measure(flights).metrics()
    assert all(isinstance(value, float) for value in metrics.values())
    assert {
        "crash/terminal_1",
        "error/number_0_0",
        "error/number_1_10",
        "reward/r2_1",
        "value/all_r2",
    } <= metrics.keys()
    assert "error/number_0_20" not in metrics
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(measure(flights)))
