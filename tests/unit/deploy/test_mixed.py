"""Exports of policies that read an image and numbers: of the race with a camera and an IMU, and of a dictionary."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.ppo.actor import FrameStackConfig
from s5wm.deploy.card import FlightCard
from s5wm.deploy.export import Exported, export
from s5wm.deploy.golden import Golden
from s5wm.deploy.parity import FLOWN_TOLERANCE, engine_actions
from s5wm.deploy.runtime.engines import C_FLAGS, CEngine, OnnxEngine, find_compiler
from s5wm.deploy.runtime.fly import FlightPlan, fly_simulated
from s5wm.deploy.student import StudentConfig, distil
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.envs.racing.camera import CameraConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.experiments.tasks import task_config
from s5wm.experiments.trained import load_agent
from s5wm.nn.conv import PatchConfig
from s5wm.nn.s5 import S5Config
from s5wm.runs.files import write_manifest
from s5wm.runs.policyfile import save_policy
from s5wm.worldmodel.latent import CategoricalConfig
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig

from ...tiny import DREAMERV3, PPO, S5WM

pytestmark = pytest.mark.slow

EYE = PatchConfig(patch=8, depth=2, multipliers=(1, 1))
CORE = S5Config(width=4, state_size=4, block_size=4, layers=1)


def sees(agent: DreamerConfig, **world_model) -> DreamerConfig:
    return replace(agent, world_model=replace(agent.world_model, image=EYE, **world_model))


def race() -> Experiment:
    camera = CameraConfig(pixels=16, supersample=1, imu=True)
    states = PrivilegedStateConfig(filter=CORE)
    agent = sees(replace(S5WM, replay_gradient=False), target="privileged", latent=states)
    return Experiment(task=replace(task_config("race/figure-8"), camera=camera), agent=agent)


NAMED = """
from own_dict_env import Reach

class NamedReach(Reach):
    metadata = Reach.metadata | {"obs_names": ["hand x", "hand y"]}
"""


def dictionary() -> Experiment:
    agent = sees(DREAMERV3, latent=CategoricalConfig(groups=4, classes=4))
    return Experiment(task=FactoryConfig(factory="own_dict_env:Reach"), agent=agent)


def names() -> Experiment:
    task = FactoryConfig(factory="named_reach:NamedReach", privileged=("state",))
    agent = replace(PPO, image=EYE, critic_inputs="privileged", memory=FrameStackConfig(frames=2))
    return Experiment(task=task, agent=agent)


MAKERS = {"s5wm-p": race, "dreamerv3": dictionary, "ppo": names}


def untrained(experiment: Experiment, folder: Path) -> Path:
    """The folder of a policy that nobody trained, whose actions depend on all that it sees."""
    env = experiment.build_env()
    agent = experiment.build_agent(env)
    policy = jax.jit(lambda key: agent.policy(agent.init(key)))(jr.key(0))
    leaves, structure = jax.tree.flatten(policy)
    keys = jr.split(jr.key(1), len(leaves))
    moved = [x + 0.2 * jr.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)]
    folder.mkdir()
    save_policy(folder / "policy.npz", jax.tree.unflatten(structure, moved))
    save_experiment(folder / "config.json", experiment)
    write_manifest(folder)
    return folder


@pytest.fixture(autouse=True, scope="module")
def examples(tmp_path_factory) -> Iterator[None]:
    module = tmp_path_factory.mktemp("modules")
    (module / "named_reach.py").write_text(NAMED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
        patch.syspath_prepend(str(module))
        yield


FORMS = [pytest.param("s5wm-p", marks=pytest.mark.faults), "dreamerv3", "ppo"]
"""The first compiles for long; test_forms.py has its parts, a filter and patches."""


@pytest.fixture(scope="module", params=FORMS, ids=str)
def export_of(request: pytest.FixtureRequest, examples: None, tmp_path_factory) -> tuple[str, Exported]:
    """Its agent's name, and an export of each experiment."""
    pytest.importorskip("onnxruntime")
    folder = untrained(MAKERS[request.param](), tmp_path_factory.mktemp("mixed") / request.param)
    return request.param, export(folder, folder.with_suffix(".out"), which="best", log=lambda _: None)


def test_every_form_does_what_the_policy_does(export_of) -> None:
    _, exported = export_of
    assert set(exported.errors) == {"reference", "onnx"} | ({"c"} if find_compiler() else set())
    assert all(each.flown < FLOWN_TOLERANCE for each in exported.errors.values())
    golden = Golden.load(exported.folder / "golden.npz")
    image, numbers = golden.inputs
    assert image.dtype == np.uint8 and numbers.dtype == np.float32
    assert numbers.shape == (200, exported.card.observation.vector_size)
    assert golden.action.std(0).min() > 1e-3 and numbers.std(0).min() > 1e-3  # else nothing would be compared
    action = engine_actions(OnnxEngine(exported.folder / "policy.onnx"), golden.inputs, golden.is_first)
    np.testing.assert_allclose(action, golden.action, atol=FLOWN_TOLERANCE)
    still = (image, np.zeros_like(numbers))
    other = engine_actions(OnnxEngine(exported.folder / "policy.onnx"), still, golden.is_first)
    assert np.abs(other - golden.action).max() > 1e-3  # the numbers are read


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_the_self_test_embeds_both_and_runs_as_the_readme_says(export_of, tmp_path: Path) -> None:
    _, exported = export_of
    engine, code = CEngine(exported.folder), (exported.folder / "policy.c").read_text()
    assert engine.selftest() < FLOWN_TOLERANCE
    assert "golden_obs[" in code and "golden_vector[" in code
    for name in ("policy.c", "policy.h"):
        shutil.copy(exported.folder / name, tmp_path)
    commands = (exported.folder / "README.md").read_text().split("```sh\n")[1].split("```")[0]
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0.0 <= float(done.stdout) < FLOWN_TOLERANCE
    strict = ["-Wpedantic", "-Wdouble-promotion", "-Wshadow", "-c", "-o", str(tmp_path / "policy.o")]
    command = [str(find_compiler()), *C_FLAGS, *strict, str(tmp_path / "policy.c")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
    start = code.index("{", code.index("golden_vector[")) + 1
    (tmp_path / "policy.c").write_text(code[:start] + " 1.0e6f +" + code[start:])
    assert CEngine(tmp_path).selftest() > 1e-4  # the vector of the self-test reaches the policy


def test_the_files_say_what_goes_in(export_of) -> None:
    import onnx

    name, exported = export_of
    card = FlightCard.load(exported.folder)
    assert card == exported.card and card.observation.is_image
    model = onnx.load(exported.folder / "policy.onnx")
    memory = ["h_in"] if card.memory else []
    kinds = {each.name: each.type.tensor_type.elem_type for each in model.graph.input}
    assert list(kinds) == ["obs", "vector", *memory]
    assert (kinds["obs"], kinds["vector"]) == (onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT)
    text = (exported.folder / "README.md").read_text()
    listed = "`obs`, `vector` and `h_in`" if memory else "`obs` and `vector`"
    assert f"Inputs {listed}; outputs `actions`" in text and "@" not in text
    assert "policy_step(&state, obs, vector, action)" in text
    entries = [(e.name, e.size, e.unit, e.scale, e.frame) for e in card.observation.entries]
    assert sum(entry.size for entry in card.observation.entries) in (0, card.observation.vector_size)
    if name == "s5wm-p":
        assert entries[0] == ("body rates", 3, "rad/s", 10.0, "body")
        assert entries[1] == (
            "last action sent, in [-1, 1]; that of hovering before the first",
            4,
            "1",
            1.0,
            "body",
        )
        assert "## Input: `obs`, 16 x 16 x 3, uint8" in text and "## Input: `vector`, 7, float32" in text
        assert "| 0 to 2 | body rates | 10 rad/s | body |" in text
    elif name == "dreamerv3":
        assert entries == [] and "## Input: `vector`, 6, float32" in text
        assert "keys of a dictionary in its order" in text
    else:
        assert entries == [("hand x", 1, "1", 1.0, "none"), ("hand y", 1, "1", 1.0, "none")]
        assert "| 0 to 0 | hand x | 1 | none |" in text and "| 1 to 1 | hand y | 1 | none |" in text


def test_what_has_no_camera_refuses_it(export_of, tmp_path: Path) -> None:
    name, exported = export_of
    reason = "it has no camera" if name == "s5wm-p" else "flies quadrotors through gates alone"
    with pytest.raises(ConfigError, match=reason):
        fly_simulated(exported.folder, FlightPlan(fast=True), tmp_path, log=lambda _: None)


def test_a_student_is_refused_with_what_the_task_shows(tmp_path: Path) -> None:
    agent = load_agent(untrained(race(), tmp_path / "race"), which="best", warn=lambda _: None)
    with pytest.raises(ConfigError, match=r"shows an image \(16, 16, 3\) and 7 numbers beside it"):
        distil(agent, StudentConfig(), log=lambda _: None)


def test_an_older_golden_file_and_card_are_read(tmp_path: Path, exported: Exported) -> None:
    obs, is_first, action = np.ones((3, 5), np.float32), np.arange(3) == 0, np.zeros((3, 2), np.float32)
    np.savez_compressed(tmp_path / "golden.npz", obs=obs, is_first=is_first, action=action)
    golden = Golden.load(tmp_path / "golden.npz")
    assert len(golden.inputs) == 1
    np.testing.assert_array_equal(golden.obs, obs)
    card = json.loads((exported.folder / "card.json").read_text())
    assert card["observation"].pop("vector_size") == 0
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert FlightCard.load(tmp_path) == exported.card
