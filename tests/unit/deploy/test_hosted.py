"""Exports of policies of Gymnasium environments: what they do in whole episodes of the environment itself."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s5wm.deploy.card import FlightCard
from s5wm.deploy.export import Exported, export
from s5wm.deploy.golden import Golden
from s5wm.deploy.parity import FLOWN_TOLERANCE
from s5wm.deploy.runtime.engines import CEngine, find_compiler
from s5wm.deploy.runtime.fly import FlightPlan, fly_simulated
from s5wm.envs.adapters.tasks import FactoryConfig, GymnasiumConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment
from s5wm.experiments.run import run_experiment

from ...tiny import PPO, S5WM, TRAIN
from .test_mixed import untrained

pytestmark = pytest.mark.slow

REMEMBERS = Experiment(task=GymnasiumConfig(id="Pendulum-v1"), agent=S5WM)
CHOOSES = Experiment(
    task=FactoryConfig(factory="own_gymnasium_env:Lamp"),
    agent=PPO,
    train=TRAIN,
)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Experiment], Exported]:
    """An export of each experiment, made once."""
    pytest.importorskip("onnxruntime")
    made: dict[str, Exported] = {}

    def of(experiment: Experiment) -> Exported:
        name = type(experiment.agent).__name__
        if name not in made:
            run = tmp_path_factory.mktemp("runs") / name
            if experiment is REMEMBERS:  # which would compile for long
                untrained(experiment, run)
            else:
                assert run_experiment(experiment, run)
            made[name] = export(run, run.with_suffix(".out"), which="best", log=lambda _: None)
        return made[name]

    return of


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))


@pytest.mark.parametrize("experiment", [REMEMBERS, CHOOSES], ids=["memory", "choices"])
def test_every_form_does_what_the_policy_does(exports, experiment: Experiment) -> None:
    exported = exports(experiment)
    assert set(exported.errors) == {"reference", "onnx"} | ({"c"} if find_compiler() else set())
    assert all(each.flown < FLOWN_TOLERANCE for each in exported.errors.values())


def test_the_golden_steps_are_episodes_of_the_environment(exports) -> None:
    import gymnasium

    golden = Golden.load(exports(REMEMBERS).folder / "golden.npz")
    starts = np.flatnonzero(golden.is_first)
    assert (
        starts[0] == 0 and (np.diff(starts) == 201).all()
    )  # 200 steps, and the observation that they end with
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset()
    cos, sin, speed = (float(x) for x in golden.obs[0])
    env.state = np.array([np.arctan2(sin, cos), speed])
    for before, after in zip(golden.action[:20], golden.obs[1:21], strict=True):
        obs, *_ = env.step(before)
        np.testing.assert_allclose(obs, after, atol=1e-4)


def test_the_card_and_the_readme_tell_of_no_drone(exports) -> None:
    exported = exports(REMEMBERS)
    card = FlightCard.load(exported.folder)
    assert card.vehicle is None and card.track is None
    assert (card.action_low, card.action_high, card.control_period) == ((-2.0,), (2.0,), pytest.approx(0.05))
    text = (exported.folder / "README.md").read_text()
    assert "@" not in text
    limit = re.search(r"> (\S+)f\b", text)  # ten parts in a million of half of a range of 4, and rounding
    assert limit is not None and 2e-5 < float(limit[1]) < 2.2e-5
    for word in ("drone", "propeller", "flight", "vehicle", "quadrotor", "track", " arm", "body"):
        assert word not in text.lower()


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_the_selftest_passes_at_the_tolerance_of_the_readme(exports) -> None:
    assert CEngine(exports(REMEMBERS).folder).selftest() < 2e-5


def test_fly_says_that_it_flies_no_such_policy(exports, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained on .*, and s5wm fly flies quadrotors through gates alone"):
        fly_simulated(exports(CHOOSES).folder, FlightPlan(fast=True), tmp_path, log=lambda _: None)
