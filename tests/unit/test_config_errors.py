"""Every error of a request to train is reported at once, with exit code 2 or 73."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from s5wm.agents.dreamer.heads import CriticConfig
from s5wm.cli import main
from s5wm.envs.racing.restarts import ResetNoise
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import SplitSConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment, save_experiment
from s5wm.experiments.run import run_experiment
from s5wm.experiments.trained import pretrained_folder
from s5wm.training.run import Trainer
from s5wm.worldmodel.config import RewardMixtureConfig, WorldModelConfig


@pytest.fixture(autouse=True)
def nothing_may_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(*_: object) -> NoReturn:
        pytest.fail("training began")

    monkeypatch.setattr(Trainer, "restore", restore)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    code = caught.value.code
    assert isinstance(code, int)
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, out.out + out.err


NAMES = [
    (["race/splits"], "unknown task 'race/splits'; did you mean 'race/split-s'?"),
    (["race/figure8"], "did you mean 'race/figure-8'?"),
    (
        ["--override", "train.keep=2", "train.num_envs=4"],
        "needs the option before it: --override train.num_envs=4",
    ),
    (["hover", "--agent", "pppo"], "did you mean 'ppo'?"),
    (["hover", "--agent", "dreamer-p"], "did you mean 'dreamerv3-p'?"),
    (["hover", "--size", "2m"], "did you mean '12m'?"),
    (["hover", "--agent", "ppo", "--size", "1m"], "unknown size '1m' of agent 'ppo'"),
    (["hover", "--seeds", "1"], "--seeds is 1; give 2 to 1000"),
    (["hover", "--seeds", "2", "--devices", "2"], "--seeds 2 trains on one device"),
    (["hover", "--override", "train.keep=1"], "train.keep is 1; keep 2 checkpoints or more"),
    (["hover", "--env-steps", "0"], "--env-steps is 0; it must be positive"),
    (["hover", "--minutes", "-3"], "--minutes is -3.0; it must be positive"),
    (["hover", "--seed", "-1"], "seed is -1"),
]


@pytest.mark.parametrize(("arguments", "message"), NAMES)
def test_names_and_budgets(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    code, text = refused(["train", *arguments, "--run", str(tmp_path / "run")], capsys)
    assert code == 2
    assert message in text
    assert not (tmp_path / "run").exists()


OVERRIDES = [
    ("agent.world_model.unit=3", "did you mean 'units'"),
    ("agent.world_model.units=wide", "must be a whole number"),
    ("agent.world_model.units=0", "world_model.units is 0"),
    ("agent.world_model.reward_layers=-1", "world_model.reward_layers is -1; it must be at least 0"),
    ("agent.world_model.cont_layers=-1", "world_model.cont_layers is -1; it must be at least 0"),
    ("agent.critic.layers=-1", "critic.layers is -1; it must be at least 0"),
    ("train.num_envs=-4", "train.num_envs is -4; it must be positive"),
    ("agent.optimiser.learning_rate=-1", "must be positive"),
    ("agent.optimiser.learning_rate=NaN", "finite"),
    ("agent.actor_critic.imagination_horizon=0", "at least 1"),
    ("agent.actor_critic.gradient_limit=0", "must be positive"),
    ("agent.actor_critic.gradient=magic", "Known: reinforce, dynamics"),
    ("agent.replay.length=5000", "does not fit into replay.capacity"),
    ("agent.replay.prefill=100000000", "learning would never start"),
    ("train.rollout_length=17", "does not divide agent.replay.capacity"),
    ("agent.replay.capacity=1600000000", "GB are free; lower agent.replay.capacity"),
    ("task.seconds=0", "HoverConfig.seconds"),
]


@pytest.mark.parametrize(("assignment", "message"), OVERRIDES)
def test_fields(assignment: str, message: str, tmp_path: Path, capsys) -> None:
    code, text = refused(["train", "hover", "--override", assignment, "--run", str(tmp_path / "run")], capsys)
    assert code == 2
    assert message in text
    assert not (tmp_path / "run").exists()


def test_heads_that_read_products_need_a_layer() -> None:
    """Products are half as many as the first hidden layer is wide; a linear head without them is fine."""
    mixture = RewardMixtureConfig(sizes=(1.0,), bounds=(-1.0, 1.0))
    for linear in (
        WorldModelConfig(reward_layers=0, cont_layers=0),
        WorldModelConfig(reward_layers=0, prior_products=True),
        WorldModelConfig(reward_layers=0, reward_mixture=mixture),
    ):
        assert linear.reward_layers == 0
    with pytest.raises(ValueError, match=r"reward_layers is 0; it must be at least 1, because .* products"):
        WorldModelConfig(reward_layers=0, reward_mixture=mixture, prior_products=True)
    assert CriticConfig(layers=0).layers == 0
    with pytest.raises(ValueError, match=r"critic.layers is 0; it must be at least 1, because .* products"):
        CriticConfig(layers=0, products=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian", "hover"],
        ["train"],
        ["train", "hover", "--sed", "3"],
        ["train", "hover", "--seed", "three"],
        ["bench", "enw"],
        ["bench", "env", "--num-envs", "0"],
        ["eval", "nowhere", "--episodes", "0"],
        ["imagine", "nowhere", "--horizon", "0"],
        ["plot"],
    ],
    ids=" ".join,
)
def test_usage(arguments: list[str], capsys) -> None:
    assert refused(arguments, capsys)[0] == 2


def test_runs_that_do_not_exist(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "config.json").write_text("{}")
    for verb in (["eval"], ["resume"], ["plot"], ["imagine"]):
        code, text = refused([*verb, "runs/frist"], capsys)
        assert code == 73
        assert "did you mean 'runs/first'?" in text
    assert "no shipped policy" in refused(["eval", "pretrained/none-such"], capsys)[1]


def test_a_shipped_policy_is_no_place_to_train(tmp_path: Path, capsys, monkeypatch) -> None:
    shipped = Path(shutil.copytree(pretrained_folder() / "split-s", tmp_path / "shipped" / "split-s"))
    monkeypatch.setattr("s5wm.experiments.trained.pretrained_folder", lambda: shipped.parent)
    before = sorted(p.name for p in shipped.iterdir())
    for arguments in (["resume", "pretrained/split-s"], ["train", "race/split-s", "--run", str(shipped)]):
        code, text = refused(arguments, capsys)
        assert code == 73 and "holds only what acting needs" in text
    assert sorted(p.name for p in shipped.iterdir()) == before


def test_a_directory_of_something_else(tmp_path: Path, capsys) -> None:
    (tmp_path / "thesis.tex").write_text("")
    code, text = refused(["train", "hover", "--run", str(tmp_path)], capsys)
    assert code == 73
    assert "not a run" in text


LONG = '{"schema": 1, "experiment": {"' + 2**20 * "x" + '": 1}}'


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"schema": 99}', '{"schema": 1, "experiment": 3}', pytest.param(LONG, id="long")],
)
def test_a_configuration_that_is_not_one(content: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "config.json").write_text(content)
    code, text = refused(["resume", str(tmp_path)], capsys)
    assert code in (2, 65)
    assert "config.json" in text
    assert len(text) < 1000


@dataclass(frozen=True, kw_only=True)
class OwnTrack:
    """A track that the package does not know."""

    name: str = "mine"

    def build(self):
        return SplitSConfig().build()


def sneaked(config, **fields):
    """A copy with values that the type checks of the tests would refuse."""
    copied = replace(config)
    for name, value in fields.items():
        object.__setattr__(copied, name, value)
    return copied


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"track": OwnTrack()}, r"task\.track\.type is 'OwnTrack'.*never be loaded again.*FileTrackConfig"),
        ({"drone_radius": np.float32(0.1)}, r"task\.drone_radius is np\.float32\(0\.1\), a float32"),
        ({"drone_radius": math.nan}, r"task\.drone_radius is nan"),
        ({"curriculum_steps": "many"}, r"task\.curriculum_steps is 'many'"),
        ({"noise": sneaked(ResetNoise(), pos=[0.5, 0.5, 0.3])}, "a list for a tuple"),
    ],
)
def test_what_could_not_be_loaded_again_is_refused_before_anything_is_made(fields, message, tmp_path):
    experiment = sneaked(Experiment(), task=sneaked(RacingConfig(), **fields))
    with pytest.raises(ConfigError, match=message):
        run_experiment(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=message):
        save_experiment(tmp_path / "config.json", experiment)
    assert not (tmp_path / "config.json").exists()


def test_rewards_beyond_the_bounds_of_their_mixture_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(
        [
            "train",
            "race/figure-8-state",
            "--override",
            "task.reward.crash=10",
            "--override",
            "task.reward.gate_pass=2",
        ],
        capsys,
    )
    assert code == 2
    assert (
        "may lie between -10.6 and 2.5: widen it, e.g. agent.world_model.reward_mixture.bounds=[-11,3]"
        in " ".join(said.split())
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": ()}, "sizes is ()"),
        ({"sizes": (0.1, 0.0)}, "sizes is (0.1, 0.0)"),
        ({"bounds": (1.0, 1.0)}, "bounds is (1.0, 1.0)"),
        ({"smoothing_bounds": (0.0, -1.0)}, "smoothing_bounds is (0.0, -1.0)"),
        ({"min_std": 0.0}, "min_std is 0.0"),
    ],
)
def test_a_mixture_of_rewards_needs_sizes_bounds_and_a_spread(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        RewardMixtureConfig(**{"sizes": (0.1, 1.0), "bounds": (-1.0, 1.0)} | changes)
    assert said in str(caught.value)
