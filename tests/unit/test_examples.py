"""The examples of docs/your-environment.md run as they are, and agents can train on them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import s5wm
from s5wm.agents.base import AbstractPolicy
from s5wm.cli.evaluating import Evaluate
from s5wm.cli.initenv import TEMPLATE, InitEnv
from s5wm.diagnostics.loaded import state_groups
from s5wm.envs.adapters.makers import makers_in
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.envs.host import HostEnv
from s5wm.errors import ConfigError, ObservationError
from s5wm.experiments.configfile import TrainRequest, resolve
from s5wm.experiments.experiment import Experiment, check_storable
from s5wm.experiments.run import run_experiment
from s5wm.experiments.tasks import task_config
from s5wm.experiments.trained import TrainedAgent
from s5wm.nn.conv import PatchConfig
from s5wm.runs.files import read_json
from s5wm.viewer.subject import load_subject

from ..tiny import PPO, S5WM, TRAIN

EXAMPLES = Path(__file__).parents[2] / "examples"

MIXED = replace(
    S5WM,
    world_model=replace(
        S5WM.world_model, image=PatchConfig(patch=8, depth=2, multipliers=(1, 1)), target="privileged"
    ),
    replay=replace(S5WM.replay, prefill=16),
)


@pytest.fixture(autouse=True)
def from_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(EXAMPLES)


def test_the_written_environment_is_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert TEMPLATE.read_text() == (EXAMPLES / "own_jax_env.py").read_text()
    path = tmp_path / "my_env.py"
    assert InitEnv(path).run() == 0
    assert "own_jax_env" not in path.read_text() and "s5wm train my_env:make" in path.read_text()
    assert "s5wm check-env my_env:make" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="exists already"):
        InitEnv(path).run()
    with pytest.raises(ConfigError, match="name a Python file"):
        InitEnv(tmp_path / "my-env.py").run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "args", "is_hosted", "limit"),
    [
        ("own_jax_env:make", ("steps=10",), False, 10),
        ("own_gymnasium_env:Lamp", ("steps=6",), True, 10_000),
        ("own_dict_env:Reach", ("steps=6",), True, 10_000),
    ],
)
def test_an_agent_trains_on_it(
    spec: str, args: tuple[str, ...], is_hosted: bool, limit: int, tmp_path: Path
) -> None:
    hidden = ("state",) if spec == "own_dict_env:Reach" else ()
    task = FactoryConfig(factory=spec, args=args, eval_steps=10_000 if is_hosted else 10, privileged=hidden)
    assert isinstance(task.build(), HostEnv) == is_hosted and task.eval_config().max_steps == limit
    experiment = Experiment(task=task, agent=MIXED if hidden else PPO, train=TRAIN)
    check_storable(experiment)
    assert run_experiment(experiment, tmp_path / "run")
    import s5wm

    run = s5wm.Run(tmp_path / "run")
    assert run.metrics[-1]["eval/length"] > 0
    assert ("eval/success" in run.metrics[-1]) == is_hosted
    if hidden:
        assert run.metrics[-1]["episode/distance"] > 0
        video = tmp_path / "reach.gif"
        assert Evaluate(str(run.path), episodes=2, video=video).run() == 0
        with Image.open(video) as pictures:
            wide, high = pictures.size
            assert wide == 256 and high > 256 and pictures.n_frames > 3  # under a caption
        assert "distance_mean" in read_json(run.path / "eval.json")


def test_errors_of_imagination_have_the_names_of_the_environment() -> None:
    groups = state_groups(resolve(TrainRequest(task="own_gymnasium_env:Lamp"), None, print))
    assert groups is not None and [group.name for group in groups] == ["level", "wanted"]
    assert state_groups(resolve(TrainRequest(task="gymnasium:CartPole-v1"), None, print)) is None


def test_only_training_knows_a_privileged_key() -> None:
    from own_dict_env import Reach

    experiment = resolve(TrainRequest(task="own_dict_env:Reach", privileged=("state",)), None, print)
    assert experiment.name.agent == "s5wm-p" and experiment.task.privileged == ("state",)
    env = experiment.build_env()
    assert (env.spec.obs_shape, env.spec.vector_size, env.spec.privileged_size) == ((32, 32, 3), 2, 4)
    shown, _ = Reach().reset(seed=0)
    seen = env.encode(shown, None)
    jax.tree.map(np.testing.assert_array_equal, (seen.image, seen.vector), (shown["camera"], shown["hand"]))
    with pytest.raises(ConfigError, match="hover shows none"):
        resolve(TrainRequest(task="hover", privileged=("state",)), None, print)
    with pytest.raises(ConfigError, match="no key of its observation"):
        resolve(TrainRequest(task="own_dict_env:Reach", privileged=("stat",)), None, print)


class NoPolicy(AbstractPolicy[Any, Any]):
    """Tells that it was asked, which it is for observations that can be read."""

    def initial(self) -> Any:
        return ()

    def __call__(self, carry: Any, obs: Any, is_first: Any, *, key: Any) -> Any:
        raise RuntimeError("the policy was asked")


@pytest.mark.parametrize(
    "shown", [[1.0, 2.0], {"hand": np.zeros(2)}, {"hand": np.zeros(2), "camera": np.zeros(7)}]
)
def test_an_observation_that_a_dictionary_has_not_is_refused_by_name(shown: Any) -> None:
    from own_dict_env import Reach

    experiment = resolve(TrainRequest(task="own_dict_env:Reach", privileged=("state",)), None, print)
    agent = TrainedAgent(experiment, NoPolicy(), Path("run"), "latest", None)
    obs, _ = Reach().reset(seed=0)
    with pytest.raises(RuntimeError, match="was asked"):
        agent.act(obs, agent.init())
    with pytest.raises(ObservationError, match="pass what reset and step of the environment return"):
        agent.act(shown, agent.init())


def test_tasks_of_the_control_suite_hold_an_action_for_two_frames() -> None:
    pytest.importorskip("shimmy")
    pytest.importorskip("dm_control")
    from dm_control_env import make

    env = make("cartpole-swingup")
    env.reset(seed=0)
    steps, ended = 0, False
    while not ended:
        *_, terminated, truncated, _ = env.step(np.zeros(1))
        steps, ended = steps + 1, terminated or truncated
    assert steps == 500 and not terminated
    task = FactoryConfig(factory="dm_control_env:make", args=("task=walker-walk",))
    assert task.build().spec.obs_shape == (24,)


def test_a_function_stands_for_its_name() -> None:
    from own_dict_env import Reach

    from s5wm.api import _spec

    assert _spec(Reach) == "own_dict_env:Reach" and _spec("hover") == "hover"
    with pytest.raises(ConfigError, match="define it at the top of another file"):
        _spec(lambda: Reach())


def test_pictures_are_what_an_agent_sees() -> None:
    spec = FactoryConfig(factory="own_image_env:make").build().spec
    assert spec.obs_shape == (64, 64, 3) and spec.has_images


@pytest.mark.slow
def test_check_env_finds_nothing_wrong_with_them() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for spec in ("own_jax_env:make", "own_gymnasium_env:Lamp"):
        command = [sys.executable, "-m", "s5wm", "check-env", spec, "--env-timeout", "250", "--steps", "40"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0 and f"{spec}  no problem found" in done.stdout, done.stdout + done.stderr
        assert re.search(r"^can train +s5wm, dreamerv3, ppo$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own_jax_env:nothing", "has no nothing"),
        ("no_such_module:make", "run this from the folder that holds no_such_module.py"),
        ("own_gymnasium_env.py:Lamp", "leave out .py: own_gymnasium_env:Lamp"),
        ("an_object:lamp", "is an object .Lamp., not what makes one"),
        ("needs_more:make", "needs_more is there, but No module named 'no_such_package'; install it"),
        ("own_jax_env:BallState", "cannot be called"),
        ("json:dumps", "a module of Python itself"),
    ],
)
def test_what_is_no_environment_is_named(
    spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    (tmp_path / "an_object.py").write_text("from own_gymnasium_env import Lamp\nlamp = Lamp()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=said):
        FactoryConfig(factory=spec).build()


def test_a_file_given_as_a_task_is_told_what_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cart.py").write_text(
        "class Cart:\n def reset(self): ...\n def step(self, a): ...\nclass Helper: ...\ndef draw(): ...\n"
    )
    (tmp_path / "maker.py").write_text("def make(): ...\ndef _helper(): ...\n")
    (tmp_path / "broken.py").write_text("def make(")
    for given, meant in (("cart", "cart:Cart"), ("cart.py", "cart:Cart"), ("maker", "maker:make")):
        with pytest.raises(ConfigError, match=f"did you mean {meant}\\?$"):
            task_config(given)
    with pytest.raises(ConfigError, match="environments of others are named"):
        task_config("broken")


def test_make_says_how_a_gymnasium_environment_is_made() -> None:
    with pytest.raises(ConfigError, match=r"import own_gymnasium_env, and call own_gymnasium_env.Lamp\(\)"):
        s5wm.make("own_gymnasium_env:Lamp")
    with pytest.raises(ConfigError, match=r"call gymnasium.make\('Pendulum-v1'\)"):
        s5wm.make("gymnasium:Pendulum-v1")


def test_a_run_says_which_folder_its_environment_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, run = tmp_path / "there", tmp_path / "run"
    there.mkdir()
    (there / "only_there.py").write_text("from own_gymnasium_env import Lamp\n")
    monkeypatch.chdir(there)
    monkeypatch.syspath_prepend(str(there))
    task = FactoryConfig(factory="only_there:Lamp")
    assert run_experiment(Experiment(task=task, agent=PPO, train=TRAIN), run)
    assert s5wm.load(run).obs_shape == (2,)
    with pytest.raises(
        ObservationError, match=r"read \(an observation has shape \(4,\), its space \(2,\)\): pass"
    ):
        agent = s5wm.load(run)
        agent.act(np.zeros(4, np.float32), agent.init())
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(there)])
    monkeypatch.delitem(sys.modules, "only_there")
    for load in (lambda: s5wm.load(run), lambda: load_subject(run, which="latest", warn=print)):
        with pytest.raises(ConfigError, match=f"folder that holds only_there.py .it was trained in {there}"):
            load()


def test_a_module_is_told_its_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function ``make``, before classes that may need arguments."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "own_jax_env.py", "my_env.py")
    assert makers_in("my_env") == ["my_env:make"]
    Path("bare.py").write_text("class Bare:\n    def reset(self): ...\n    def step(self): ...\n")
    assert makers_in("bare.py") == ["bare:Bare"]
