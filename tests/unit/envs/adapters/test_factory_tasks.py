"""A task that a user's function returns is judged, trained and drawn by its own rules."""

import sys
import types
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import s5wm
from s5wm.diagnostics.positions import track_of_task
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.envs.groups import number_groups
from s5wm.envs.hover import HoverConfig
from s5wm.envs.probes import ActionReward
from s5wm.envs.racing.task import RacingConfig, RacingEnv
from s5wm.envs.racing.variation import VariationConfig
from s5wm.envs.racing.varied import VariedRace
from s5wm.envs.task import AbstractDroneTask, AbstractTask, Column, Episodes, Perturbations, ReportedMetric
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError
from s5wm.evaluation.protocol import evaluator, judge
from s5wm.experiments.experiment import Experiment, load_experiment, save_experiment
from s5wm.experiments.presets import preset

RACE = FactoryConfig(factory="s5wm.envs.racing.task:RacingConfig")
HOVER = FactoryConfig(factory="s5wm.envs.hover:HoverConfig")


@pytest.fixture
def factory(monkeypatch):
    """Makes the spec of a function that returns this."""

    def spec(made):
        name = f"module_of_{id(made)}"
        module = types.ModuleType(name)
        module.make = lambda: made
        monkeypatch.setitem(sys.modules, name, module)
        return FactoryConfig(factory=f"{name}:make")

    return spec


ENV = ActionReward()
SUITES = Perturbations(
    suites={"wind": {"wind": 1.0}}, build=lambda suite, strength: ENV, summary=lambda e: {}
)
EPISODES = Episodes(
    final=None,
    return_nominal=np.zeros(1, np.float32),
    return_smoothing=None,
    steps=np.ones(1, np.int32),
    is_terminal=np.zeros(1, np.bool_),
    metrics={},
    recording=None,
)


@dataclass(frozen=True, kw_only=True)
class Told(AbstractTask):
    """Has an answer of its own to every question."""

    form: str = "named"

    def build(self):
        return ENV

    def training_env(self):
        return AutoReset(ENV)

    max_steps = 17

    def refusal(self):
        return "it refuses"

    def reward_range(self):
        return (-1.0, 2.0)

    def eval_config(self):
        return replace(self, form="judged")

    def as_trained(self, *, imagines, size):
        return replace(self, form=f"trained {imagines} {size}")

    def perturbations(self):
        return SUITES

    def success(self, metrics, returns):
        return returns > 0.5

    def summary(self, env, episodes):
        return {"env": env, "episodes": episodes}

    def score(self, summary):
        return (3.0, summary["a"])

    reported_metrics = (ReportedMetric(name="a", log="a"),)
    columns = (Column(name="a", title="a"),)
    bounds = {"eval/lap_time": 1.0}

    def state_groups(self, target):
        return number_groups(3)


ARGUMENTS = {
    "success": ({}, np.ones(1, np.float32)),
    "summary": (ENV, EPISODES),
    "score": ({"a": 1.0},),
    "state_groups": ("observation",),
}


@pytest.mark.parametrize("name", [n for n in vars(AbstractTask) if n[0] != "_" and n != "underlying"])
def test_every_member_of_a_task_is_that_of_the_one_returned(name, factory, monkeypatch):
    told = Told()
    given = factory(told)
    monkeypatch.setattr("s5wm.envs.adapters.tasks.is_importable", lambda spec: True)
    assert name in vars(FactoryConfig), f"FactoryConfig does not pass on {name}"
    assert name in vars(Told), f"this test does not ask for {name}"
    if name == "eval_config":
        assert given.eval_config().underlying == replace(told, form="judged")
    elif name == "as_trained":
        assert given.as_trained(imagines=True, size="cpu").underlying.form == "trained True cpu"
    elif callable(getattr(told, name)):
        arguments = ARGUMENTS.get(name, ())
        assert getattr(given, name)(*arguments) == getattr(told, name)(*arguments)
    else:
        assert getattr(given, name) == getattr(told, name)


def test_hover_behind_a_function_is_hover():
    env = HoverConfig().build()
    state, _ = jax.jit(env.reset)(jr.key(0))
    final = jax.tree.map(lambda leaf: leaf[None], state)
    episodes = replace(EPISODES, final=final, metrics=jax.vmap(env.episode_metrics)(final))
    told = HOVER.eval_config().summary(env, episodes)
    assert told == HoverConfig().summary(env, episodes) and told["success_rate"] == 0.0
    result = judge(HOVER, told | {"return_nominal": 1.0}, print)
    assert result.row["eval/error"] == pytest.approx(told["error_mean"])


def test_a_race_behind_a_function_is_a_race():
    plan = evaluator(RACE, 4)
    assert plan.task == RacingConfig().eval_config() and plan.plan.recorded == 4
    assert plan.env.config.p_start_final == 1.0 and RACE.eval_config().max_steps == 1000
    assert RACE.bounds == RacingConfig().bounds and RACE.reward_range() == RacingConfig().reward_range()
    assert track_of_task(RACE).gate_pos.shape == (7, 3)
    assert isinstance(RACE.underlying, AbstractDroneTask)
    assert RACE.perturbations().suites["wind"] == {"wind": 3.0}


def test_it_trains_in_its_training_form_and_its_file_gives_it_back(tmp_path):
    experiment = preset(RACE.factory, "ppo", "cpu")
    assert experiment.task.underlying.observation == "C"  # of PPO
    assert experiment.task.eval_config().underlying.observation == "C"
    save_experiment(tmp_path / "config.json", experiment)
    again = load_experiment(tmp_path / "config.json", warn=print)
    assert again == experiment and again.task.underlying == experiment.task.underlying
    assert preset(HOVER.factory, "ppo", "cpu").task == HOVER


def test_a_variation_of_its_own_is_trained_on_and_not_judged_by(factory):
    task = factory(RacingConfig(variation=VariationConfig(wind=2.0)))
    env = Experiment(task=task).build_env()
    assert isinstance(env.env, VariedRace)
    assert env.env.ranges.wind == jnp.float32(2.0)
    assert task.eval_config().underlying.variation is None
    assert isinstance(s5wm.make(task.factory).env, VariedRace)
    assert isinstance(s5wm.make(task.factory, evaluation=True).env, RacingEnv)


def test_what_it_refuses_is_refused_before_training_and_not_when_its_file_is_read(factory):
    experiment = Experiment(task=factory(Told()))
    with pytest.raises(ConfigError, match="it refuses"):
        experiment.build()


def test_many_environments_in_one_are_refused(factory):
    gymnasium = pytest.importorskip("gymnasium")
    made = factory(gymnasium.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(ConfigError, match=r"VectorEnv, many environments in one.*train\.num_envs"):
        made.build()
