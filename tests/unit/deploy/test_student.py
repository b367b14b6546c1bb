"""A student without memory learns what its teacher does, and its export tells what that cost."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.ppo.actor import ReactiveActor, TanhMLP
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.deploy.card import FlightCard
from s5wm.deploy.export import export
from s5wm.deploy.student import StudentConfig, distil
from s5wm.envs.hover import HoverConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.presets import preset
from s5wm.experiments.trained import TrainedAgent
from s5wm.ops.running import RunningMoments

pytestmark = pytest.mark.slow

SHORT = StudentConfig(units=16, rounds=8, num_envs=16, steps=40, updates=200, batch=128, episodes=4)


def hovering() -> TrainedAgent:
    """A network that nobody trained, whose actions depend on all that it sees."""
    experiment = Experiment(task=HoverConfig(), agent=PPOConfig())
    spec = experiment.build_env().spec
    network = TanhMLP((*spec.obs_shape, 8, spec.action_size), out_scale=0.5, key=jr.key(3))
    moments = RunningMoments.init(spec.obs_shape[0])
    policy = PPOPolicy(ReactiveActor(network), jnp.zeros(spec.action_size), moments, spec.action)
    return TrainedAgent(experiment, policy, Path("nowhere"), "latest", None)


def test_its_error_falls_where_it_flies():
    told: list[str] = []
    taught = distil(hovering(), SHORT, log=told.append)
    assert len(taught.errors) == SHORT.rounds
    assert taught.errors[0] > 0.1
    assert taught.errors[-1] < 0.25 * taught.errors[0]
    assert taught.card.error == taught.errors[-1]
    assert np.isfinite(taught.card.student.return_mean)
    assert any("round 8 of 8" in line for line in told)


def test_the_same_seed_gives_the_same_student():
    few = replace(SHORT, rounds=2, updates=3, episodes=1)
    first, again = (distil(hovering(), few, log=lambda _: None) for _ in range(2))
    other = distil(hovering(), replace(few, seed=1), log=lambda _: None)
    assert first.errors == again.errors != other.errors


def test_an_export_of_a_student_has_no_memory_and_tells_what_it_lost(tmp_path):
    pytest.importorskip("onnxruntime")
    few = replace(SHORT, units=8, rounds=2, num_envs=4, steps=5, updates=5, episodes=2)
    done = export("pretrained/split-s", tmp_path / "out", which="best", log=lambda _: None, student=few)
    assert all(each.fits for each in done.errors.values())
    assert done.parameters == 24 * 8 + 8 + 8 * 8 + 8 + 8 * 4 + 4 + 2 * 24  # and how inputs are scaled
    card = FlightCard.load(tmp_path / "out")
    assert card == done.card
    assert card.memory_size == 0
    assert card.imitation is not None
    assert (card.imitation.units, card.imitation.episodes) == (8, 2)
    assert card.imitation.teacher.success_rate == 1.0
    assert card.imitation.student.success_rate == 0.0  # five updates fly no race
    text = (tmp_path / "out" / "README.md").read_text()
    assert "student of that policy: 2 layers of 8, no memory" in text
    assert "| policy | 100% |" in text
    assert "@" not in text


def test_what_cannot_be_taught_is_refused():
    images = preset("race/figure-8", "s5wm", "cpu")
    agent = replace(hovering(), experiment=images)
    with pytest.raises(ConfigError, match="a student reads one vector"):
        distil(agent, SHORT, log=lambda _: None)
    with pytest.raises(ValueError, match=r"student.rounds is 1; it must be at least 2"):
        StudentConfig(rounds=1)
