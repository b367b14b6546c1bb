import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.diagnostics.comparison import compare_imagination
from s5wm.diagnostics.forecast import seen_by
from s5wm.diagnostics.loaded import LoadedRun
from s5wm.diagnostics.run import fly_streams
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import PresetName, save_experiment
from s5wm.nn.gru import BlockGRUConfig
from s5wm.plots.foresight import bands_of, draw_foresight

from .saved import HORIZON, SMALL, STEPS, save_run

GRU = dataclasses.replace(
    SMALL,
    name=PresetName(task="hover", agent="dreamerv3", size="cpu"),
    agent=dataclasses.replace(
        SMALL.agent,
        world_model=dataclasses.replace(SMALL.agent.world_model, core=BlockGRUConfig(width=16, hidden=4)),
    ),
)


def silent(_: str) -> None: ...


@pytest.fixture(scope="module")
def s5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("s5"), SMALL)


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("gru"), GRU)


@pytest.mark.slow
def test_models_foresee_the_flights_of_all_and_a_run_beside_itself_as_alone(
    s5: Path, gru: Path, tmp_path: Path
) -> None:
    """Entries made anew for the first rows must be those that flying stored."""
    with pytest.raises(ConfigError, match="twice"):
        compare_imagination([s5, s5], HORIZON, 3)
    found = compare_imagination([s5, shutil.copytree(s5, tmp_path / "copy"), gru], HORIZON, 3)
    first, second, other = found["agents"].values()
    assert first == second != other
    assert found["steps"] == 3 * 3 * (STEPS + 1)
    for each in (first, other):
        bands = bands_of(each)
        assert list(bands) == ["position", "velocity", "attitude", "body_rates", "reward"]
        assert np.isfinite(bands["position"].median).all()
    assert len(draw_foresight(found).axes) == 5
    own = LoadedRun.load(s5, silent)
    rows = fly_streams(
        AutoReset(SMALL.task.eval_config().build()),
        own.policy,
        episodes=3,
        length=STEPS + 1,
        key=jr.key(1),
    )
    alone = own.report(rows, HORIZON, jr.key(2))
    anew = own.report(seen_by(own.model, rows), HORIZON, jr.key(2))
    for left, right in zip(jax.tree.leaves(alone), jax.tree.leaves(anew), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_other_tasks_are_not_mixed(s5: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(SMALL, task=dataclasses.replace(SMALL.task, seconds=2 * STEPS * 0.02))
    save_experiment(tmp_path / "unused.json", other)
    with pytest.raises(ConfigError, match="another task"):
        compare_imagination([s5, save_run(tmp_path / "other", other)], HORIZON, 3)


def test_steps_that_no_flight_had_become_gaps() -> None:
    curve = {"median": [1.0, None], "lo": [0.5, None], "hi": [2.0, None], "unit": "m"}
    band = bands_of({"error": {"position": curve}})["position"]
    assert band.median[0] == 1.0 and jnp.isnan(band.median[1])
