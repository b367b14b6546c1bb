import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.cli import main
from s5wm.diagnostics.forecast import Reach
from s5wm.diagnostics.predictions import choose_moments
from s5wm.diagnostics.run import imagine_run
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import SplitSConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.experiments.experiment import save_experiment
from s5wm.runs.predictions import load_predictions

from .saved import HORIZON, SMALL, STEPS, save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), SMALL)


@pytest.mark.slow
def test_a_run_is_measured(run: Path) -> None:
    with jax.debug_nans(True), jax.debug_infs(True):  # flights shorter than the horizon are no NaN of ours
        found = imagine_run(run, HORIZON, 3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["env_steps"] == 192
    assert found["steps"] == 3 * (STEPS + 1)
    assert list(found["error"]) == ["position", "velocity", "attitude", "body_rates", "reward"]
    for band in found["error"].values():
        assert len(band["median"]) == HORIZON
        assert np.all(np.asarray(band["lo"]) <= band["median"])
        assert np.all(np.asarray(band["median"]) <= band["hi"])
    predictions = load_predictions(run / "plots" / "imagination.npz")
    assert predictions.real_pos.shape[1:] == (HORIZON + 1, 3)
    assert predictions.imagined_pos.shape == (len(predictions.real_pos), 8, HORIZON + 1, 3)
    # Real flights move smoothly and start within the metres that hover starts in; NaN would fail both.
    assert np.abs(np.diff(predictions.real_pos, axis=1)).max() < 0.5
    assert np.isfinite(predictions.imagined_pos).all()
    assert predictions.errors["position"].median == pytest.approx(
        found["error"]["position"]["median"], rel=1e-5
    )


@pytest.mark.slow
def test_positions_of_a_race_in_layout_c_follow_from_its_gates(tmp_path: Path) -> None:
    task = RacingConfig(
        track=SplitSConfig(), observation="C", episode_seconds=STEPS * 0.02, stall_seconds=0.5
    )
    folder = save_run(tmp_path / "run", dataclasses.replace(SMALL, task=task))
    found = imagine_run(folder, HORIZON, 3)
    groups = ["position", "velocity", "up", "body_rates", "gate", "next_gate", "reward"]
    assert list(found["error"]) == groups
    band = found["error"]["position"]
    assert band["unit"] == "m" and band["deviation"] > 0.0 and len(band["median"]) == HORIZON
    predictions = load_predictions(folder / "plots" / "imagination.npz")
    assert list(predictions.errors) == groups and predictions.track is not None
    assert len(predictions.real_pos) > 0 and np.isfinite(predictions.real_pos).all()
    # Real flights begin at the start and move by less than 0.5 m a step.
    assert np.abs(np.diff(predictions.real_pos, axis=1)).max() < 0.5
    assert np.linalg.norm(predictions.real_pos[:, 0] - predictions.track.start_pos, axis=-1).min() < 3.0


@pytest.mark.slow
def test_a_task_without_positions_has_the_error_of_every_number_and_a_picture(tmp_path: Path, capsys) -> None:
    folder = save_run(tmp_path / "run", dataclasses.replace(SMALL, task=DoubleIntegratorConfig()))
    with pytest.raises(SystemExit) as exit_:
        main(["imagine", str(folder), "--horizon", str(HORIZON), "--episodes", "2"])
    assert exit_.value.code == 0
    said = capsys.readouterr()
    assert "number 0 " in said.out and "deviation" in said.out and "(1)" not in said.out
    assert "2 episodes" in said.out and "steps together" in said.out
    assert (folder / "plots" / "imagination.png").stat().st_size > 10_000
    predictions = load_predictions(folder / "plots" / "imagination.npz")
    assert len(predictions.real_pos) == 0
    assert all(band.deviation > 0.0 for band in predictions.errors.values())


def test_impossible_requests_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"horizon is 30 .* \[1, 29\]"):
        imagine_run(run, STEPS)
    without = dataclasses.replace(SMALL, agent=PPOConfig(minibatches=2))
    save_experiment(tmp_path / "config.json", without)
    with pytest.raises(ConfigError, match="without a world model"):
        imagine_run(tmp_path)
    save_experiment(tmp_path / "config.json", SMALL)
    with pytest.raises(RunDirectoryError, match="no checkpoint"):
        imagine_run(tmp_path, HORIZON)


def test_moments_are_the_ones_that_last_longest() -> None:
    is_first = np.zeros((2, 9), bool)
    is_first[0, [0, 2, 4, 6, 8]] = is_first[1, 3] = True
    chosen = choose_moments(Reach.of(jnp.asarray(is_first), horizon=20, stride=1))
    assert chosen.tolist() == [[1, 3]]
    everywhere = choose_moments(Reach.of(jnp.zeros((4, 30), bool), horizon=5, stride=1))
    assert len(everywhere) == 12
    assert everywhere[:, 1].max() == 24
    assert set(everywhere[:, 0].tolist()) == {0, 1, 2, 3}
    assert len(choose_moments(Reach.of(jnp.ones((2, 5), bool), horizon=3, stride=1))) == 0
    assert not isinstance(chosen, jax.Array)
