"""Metrics are means over the gradient steps that happened, never over what was skipped or had not begun."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.agents.base import MetricSums
from s5wm.experiments.experiment import Experiment
from s5wm.training.loop import train_all
from s5wm.training.state import TrainState, init_train

from ...tiny import S5WM, learning


def told(
    experiment: Experiment, state: TrainState[Any], iterations: int
) -> tuple[TrainState[Any], MetricSums]:
    program, length = experiment.build(), experiment.train.rollout_length
    ((state, sums, _),) = train_all(
        program.env, program.agent, [state], length=length, iterations=np.int32(iterations)
    )
    return state, sums


def begun(experiment: Experiment) -> TrainState[Any]:
    program = experiment.build()
    return init_train(program.env, program.agent, experiment.train.num_envs, 0)


def test_sums_add_up_what_happened() -> None:
    steps = [({"loss": 3.0}, True), ({"loss": jnp.nan}, False), ({"loss": 5.0}, True)]
    each = [MetricSums.of({"loss": jnp.asarray(m["loss"])}, jnp.asarray(happened)) for m, happened in steps]
    total = jax.tree.map(lambda *x: jnp.stack(x), *each).total()
    assert total.count == 2
    assert total.means == {"loss": 4.0}
    assert each[1].means == {}


def test_an_update_that_had_not_begun_or_was_skipped_is_in_no_mean(tiny: Experiment) -> None:
    # Of two iterations the first one only fills the replay.
    agent = learning(S5WM)
    experiment = replace(tiny, agent=agent)
    waiting, nothing = told(experiment, begun(experiment), 1)
    assert (float(nothing.count), nothing.means) == (0.0, {})
    started, one = told(experiment, waiting, 1)
    _, both = told(experiment, begun(experiment), 2)
    assert float(one.count) == float(both.count) == agent.updates_per_rollout
    assert one.means["loss/critic"] != 0.0
    assert both.means == pytest.approx(one.means, rel=1e-5)

    poisoned = eqx.tree_at(lambda s: s.learner.params.critic, started, replace_fn=replace_with_nan)
    after, skipped = told(experiment, poisoned, 1)
    assert (float(skipped.count), skipped.means) == (0.0, {})
    assert int(after.learner.guard.skipped) == agent.updates_per_rollout


def test_a_skipped_minibatch_is_in_no_mean(tiny: Experiment) -> None:
    poisoned = eqx.tree_at(lambda s: s.learner.params.critic, begun(tiny), replace_fn=replace_with_nan)
    after, skipped = told(tiny, poisoned, 1)
    assert (float(skipped.count), skipped.means) == (0.0, {})
    assert int(after.learner.guard.skipped) == 2


def replace_with_nan(critic: Any) -> Any:
    return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), critic)
