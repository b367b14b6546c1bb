"""Files of before: configurations, checkpoints and policies with names that this version calls otherwise."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.replay import ReplayConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment, load_experiment, save_experiment
from s5wm.experiments.trained import load_agent, pretrained_names
from s5wm.runs.checkpoint import restore
from s5wm.runs.codec import encode, override
from s5wm.runs.files import read_json, write_json
from s5wm.runs.migrate import is_dropped, name_now
from s5wm.runs.policyfile import load_policy
from s5wm.runs.renamed import CLASSES, FIELDS, REMOVED, updated
from s5wm.training.run import abstract_state

DATA = Path(__file__).parents[2] / "data"
BEFORE = {now: before for before, now in CLASSES.items()}


def of_before(data):
    """An encoded configuration as schema 1 wrote it."""
    if isinstance(data, list):
        return [of_before(item) for item in data]
    if not isinstance(data, dict):
        return data
    kind = data["type"]
    names = {now: before for before, now in FIELDS.get(kind, {}).items()}
    older = {names.get(name, name): of_before(value) for name, value in data.items()} | REMOVED.get(kind, {})
    return older | {"type": BEFORE.get(kind, kind)}


def refused(text):
    raise AssertionError(text)


@pytest.mark.parametrize("name", ["schema-1", "schema-2"])
def test_runs_of_before_are_read_without_a_warning(name):
    path = DATA / name / "config.json"
    assert read_json(path)["schema"] == 1
    load_experiment(path, warn=lambda text: None if "since" in text or "missing" in text else refused(text))


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_policies_load(name):
    agent = load_agent(name, which="best", warn=refused)
    state = agent.init()
    assert np.isfinite(agent.act(np.zeros(agent.obs_shape, agent.spec.obs_dtype), state)[0]).all()


def test_an_experiment_of_before_is_the_same_as_now(tmp_path):
    agent = replace(DreamerConfig(), ema_rate=0.004, ema_start=7, actor_critic_warmup=3)
    agent = replace(agent, actor_critic=replace(agent.actor_critic, num_imagination_starts=5, tau=0.5))
    experiment = Experiment(agent=agent)
    save_experiment(tmp_path / "now.json", experiment)
    stored = read_json(tmp_path / "now.json")
    assert stored["schema"] == 2
    older = of_before(stored["experiment"])
    assert older["agent"]["acting_rate"] == 0.004 and older["agent"]["replay"]["surprising"] == 0
    write_json(tmp_path / "before.json", stored | {"schema": 1, "experiment": older})
    assert load_experiment(tmp_path / "before.json", warn=refused) == experiment


def test_an_option_that_is_gone_is_refused_where_it_was_used():
    older = of_before(encode(ReplayConfig()))
    assert updated(older) == encode(ReplayConfig())
    with pytest.raises(ConfigError, match="surprising is 4, an option that this version no longer has"):
        updated(older | {"surprising": 4})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("agent.acting_rate", "it is called ema_rate now"),
        ("agent.actor_critic.starts", "it is called num_imagination_starts now"),
        ("agent.replay.surprising", "this version no longer has it"),
    ],
)
def test_an_override_in_an_old_name_is_told_the_new_one(path, said):
    with pytest.raises(ConfigError, match=said):
        override(Experiment(), [f"{path}=1"])


def test_old_array_names_are_those_of_a_learner_now():
    switch, look = "switch" + "_head", "mix" + "_look"  # as they were
    assert name_now(4, "learner" + ".acting.actor.out.bias") == "learner.policy_ema.actor.out.bias"
    prior = "learner.opt_state.1.mu.world_model.dynamics.sequence.{}.out.bias"
    assert name_now(4, prior.format(switch)) == prior.format("mixture_logits_head")
    assert name_now(5, prior.format(switch)) == prior.format(switch)
    assert name_now(4, f"learner.params.world_model.dynamics.sequence.core.{look}").endswith(
        "core.dyn_hidden"
    )
    assert name_now(4, "actor.env_state.inner.camera.look.blur") == "actor.env_state.inner.camera.look.blur"
    assert is_dropped(4, "learner.replay.surprise") and not is_dropped(5, "learner.replay.surprise")


def test_every_new_array_name_exists():
    spec = Experiment().build_env().spec
    agent = replace(DreamerConfig(), ema_rate=0.1).build(spec, num_envs=4)
    learner = jax.eval_shape(agent.init, jax.random.key(0))
    assert learner.policy_ema is not None and learner.skipped_batch is not None
    assert not hasattr(learner.replay, "surprise")


@pytest.mark.parametrize(("name", "step"), [("schema-1", 64), ("schema-2", 128), ("schema-5", 128)])
def test_a_checkpoint_of_before_holds_the_policy_that_was_saved_beside_it(name, step):
    """Every array is where its name is: both were written by the same save."""
    checkpoint = DATA / name / "checkpoints" / f"{step:012d}"
    experiment = load_experiment(DATA / name / "config.json", warn=lambda _: None)
    program = experiment.build()
    state, host = restore(checkpoint, abstract_state(program, experiment.train, experiment.seed))
    assert host["env_steps"] == step
    policy = program.agent.policy(state.learner)
    jax.tree.map(np.testing.assert_array_equal, policy, load_policy(checkpoint / "policy.npz", policy))
