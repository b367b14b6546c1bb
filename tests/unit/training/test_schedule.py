from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPO, PPOLearner
from s5wm.experiments.experiment import Experiment
from s5wm.training.config import TrainConfig
from s5wm.training.loop import unroll
from s5wm.training.state import init_train

from .conftest import RecordingSink, trained


def test_the_rate_falls_linearly_over_the_end_of_the_budget() -> None:
    config = TrainConfig(decay_from=0.6, decay_to=0.1)
    factors = [config.rate_schedule(share) for share in (0.0, 0.6, 0.8, 1.0)]
    assert factors == pytest.approx([1.0, 1.0, 0.55, 0.1])
    assert [TrainConfig().rate_schedule(share) for share in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["decay_from", "decay_to"])
def test_a_share_beyond_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"train.{name} is 1.5"):
        TrainConfig(**{name: 1.5})


def test_the_host_sets_the_rate_of_each_chunk(tiny: Experiment, tmp_path, sink: RecordingSink) -> None:
    decaying = replace(tiny, train=replace(tiny.train, decay_from=0.5, decay_to=0.2))
    trainer = trained(decaying, tmp_path / "run", sink)
    chunks = len(sink.rows)
    expected = [decaying.train.rate_schedule(index / chunks) for index in range(chunks)]
    assert [row["health/rate"] for row in sink.rows] == pytest.approx(expected)
    assert expected[-1] < 1.0
    assert float(trainer.state.learner.guard.schedule) == pytest.approx(expected[-1])


def test_a_rate_of_zero_changes_no_parameter(tiny: Experiment) -> None:
    program = tiny.build()
    agent = program.agent
    assert isinstance(agent, PPO)
    state = init_train(program.env, agent, tiny.train.num_envs, 0)
    learner: PPOLearner = eqx.tree_at(lambda x: x.guard.schedule, state.learner, jnp.zeros(()))
    shape = (tiny.train.num_envs, tiny.train.rollout_length)
    _, rollout, _ = unroll(program.env, agent.policy(learner), state.actor, length=shape[1], key=jr.key(1))
    moved, _ = agent.update(learner, rollout, smoothing_weight=jnp.zeros(()), key=jr.key(2))
    for left, right in zip(jax.tree.leaves(learner.params), jax.tree.leaves(moved.params), strict=True):
        np.testing.assert_array_equal(left, right)
