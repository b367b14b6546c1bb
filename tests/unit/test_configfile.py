"""A training from a file: names and overrides, or the whole configuration of a run; the command line counts more."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s5wm.errors import ConfigError
from s5wm.experiments.configfile import TrainRequest, flattened, resolve
from s5wm.experiments.experiment import save_experiment
from s5wm.experiments.presets import preset

TEXT = """
task: hover
agent: ppo
seed: 3
env_steps: 2e6
override:
  agent.units: 32
  train: {num_envs: 64, eval_every: 1.0e5}
"""


def silent(_: str) -> None: ...


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wish.yaml"
    path.write_text(TEXT)
    return path


def test_names_budget_and_fields_of_a_file(file: Path) -> None:
    found = resolve(TrainRequest(), file, silent)
    assert (found.name.task, found.name.agent, found.name.size, found.seed) == ("hover", "ppo", "cpu", 3)
    assert (found.agent.units, found.train.num_envs, found.train.eval_every) == (32, 64, 100_000)
    assert found.train.env_steps == 2_000_000
    as_json = file.with_suffix(".json")
    as_json.write_text(json.dumps({"task": "hover", "agent": "ppo", "seed": 3, "env_steps": 2_000_000} | {
        "override": ["agent.units=32", "train.num_envs=64", "train.eval_every=100000"]}))  # fmt: skip
    assert resolve(TrainRequest(), as_json, silent) == found


def test_the_command_line_counts_more(file: Path) -> None:
    found = resolve(TrainRequest(seed=0, env_steps=5_000, override=["agent.units=16"]), file, silent)
    assert (found.seed, found.train.env_steps, found.agent.units, found.train.num_envs) == (0, 5_000, 16, 64)


def test_without_a_file_it_is_the_preset() -> None:
    assert resolve(TrainRequest(task="hover", agent="ppo"), None, silent) == preset("hover", "ppo", "cpu")
    with pytest.raises(ConfigError, match="no task was named"):
        resolve(TrainRequest(), None, silent)


def test_the_configuration_of_a_run_is_a_whole_experiment(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    before = replace(
        preset("hover", "ppo", "cpu", seed=5), train=replace(preset("hover", "ppo").train, num_envs=32)
    )
    save_experiment(path, before, start={"run": "other"})
    assert resolve(TrainRequest(), path, silent) == before
    again = resolve(
        TrainRequest(task="hover", seed=6, env_steps=7_000, override=["agent.units=8"]), path, silent
    )
    assert (again.seed, again.train.env_steps, again.train.num_envs, again.agent.units) == (6, 7_000, 32, 8)
    with pytest.raises(ConfigError, match=r"whole experiment whose agent is 'ppo', and 's5wm' was named"):
        resolve(TrainRequest(agent="s5wm"), path, silent)
    with pytest.raises(ConfigError, match=r"seed is 4294967296"):
        resolve(TrainRequest(seed=2**32), path, silent)
    with pytest.raises(ConfigError, match=r"--env-arg gravity=5 was given, but .* whole experiment"):
        resolve(TrainRequest(env_arg=("gravity=5",)), path, silent)
    with pytest.raises(ConfigError, match=r"--privileged state was given"):
        resolve(TrainRequest(privileged=("state",)), path, silent)


def test_either_budget_alone_replaces_the_other(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    save_experiment(path, resolve(TrainRequest(task="hover", agent="ppo", minutes=5.0), None, silent))
    train = resolve(TrainRequest(env_steps=10**6), path, silent).train
    assert (train.env_steps, train.minutes) == (10**6, None)
    train = resolve(TrainRequest(env_steps=10**6, minutes=7.0), path, silent).train
    assert (train.env_steps, train.minutes) == (10**6, 7)


def test_a_member_of_a_union_is_chosen_before_its_fields() -> None:
    nested = {"task": {"track": {"layout": "x", "type": "Figure8Config"}, "action_delay": 0.02}}
    assert flattened(nested) == [
        "task.track.type=Figure8Config",
        "task.track.layout=x",
        "task.action_delay=0.02",
    ]
    assert flattened({"a": [1, 2], "b": None, "c": True}) == ["a=[1, 2]", "b=null", "c=true"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task: hover\nagent: {units: 3}\n", "agent is {'units': 3}; it must be a name"),
        ("tusk: hover\n", "unknown field tusk.*did you mean 'task'"),
        ("task: hover\nenv_steps: many\n", "env_steps is 'many'; it must be a whole number"),
        ("task: hover\nseed: true\n", "seed is True"),
        ("task: hover\noverride: 3\n", "override is 3; it must be a mapping"),
        ("task: [hover\n", "no YAML"),
        ("- hover\n", "an object of fields is expected"),
    ],
)
def test_what_a_file_cannot_say_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wish.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(TrainRequest(), path, silent)
    assert str(path) in str(caught.value)


def test_a_wrong_field_is_found_as_on_the_command_line(file: Path) -> None:
    file.write_text("task: hover\noverride: {agent: {unit: 3}}\n")
    with pytest.raises(ConfigError, match=r"unknown field agent\.unit"):
        resolve(TrainRequest(agent="ppo"), file, silent)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "examples" / "trainings").iterdir()), ids=lambda f: f.stem
)
def test_example_trainings_are_experiments(file: Path) -> None:
    """Every field that they name exists, and what they ask for is what comes out."""
    said: list[str] = []
    found = resolve(TrainRequest(), file, said.append)
    assert said == []
    asked = json.loads(file.read_text())
    assert (found.name.task, found.train.env_steps) == (asked["task"], asked["env_steps"])
    assert found != preset(asked["task"], asked["agent"])
    assert found.train.num_envs == asked["override"]["train"]["num_envs"]
