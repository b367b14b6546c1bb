from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Bool

from s5wm.agents.base import AbstractPolicy
from s5wm.envs.hover import HoverConfig
from s5wm.envs.racing.bounds import ImpossibleLapError, lap_bound
from s5wm.envs.racing.evaluation import race_summary
from s5wm.envs.racing.laps import MAX_LAPS, NO_TIME, Ending, FlightRecord
from s5wm.envs.racing.task import RacingConfig
from s5wm.evaluation.protocol import evaluator, judge
from s5wm.experiments.presets import preset
from s5wm.runs.codec import override
from s5wm.runs.flights import load_flights, load_track_geometry
from s5wm.types import Key

TRACKS = Path(__file__).parents[2] / "examples" / "tracks"


def record(*flights: tuple[list[float], Ending]) -> FlightRecord:
    times = np.full((len(flights), MAX_LAPS), NO_TIME, np.float32)
    for row, (laps, _) in zip(times, flights, strict=True):
        row[: len(laps)] = laps
    count = len(flights)
    laps = jnp.array([len(laps) for laps, _ in flights], jnp.int32)
    return FlightRecord(
        ending=jnp.array([ending for _, ending in flights], jnp.int32),
        from_start=jnp.ones(count, bool),
        gates=7 * laps + 1,
        laps=laps,
        lap_times=jnp.asarray(times),
        launch_lap=jnp.where(laps > 0, 7.0, NO_TIME).astype(jnp.float32),
        seconds=jnp.full(count, 20.0, jnp.float32),
        top_speed=jnp.arange(count, dtype=jnp.float32) + 10,
        margin=0.1 * jnp.arange(1, count + 1, dtype=jnp.float32),
    )


def summary_of(flown: FlightRecord) -> dict[str, Any]:
    return race_summary(RacingConfig(), flown)


def test_figures_of_a_race_by_hand() -> None:
    flown = record(
        ([6.0, 5.0, 5.5], Ending.TIME_LIMIT),
        ([6.0, 5.2, 5.1, 5.2], Ending.RIM_HIT),  # a crash after three laps is still a success
        ([6.0, 5.0], Ending.GROUND),
        ([], Ending.STALLED),
    )
    metrics = summary_of(flown)
    flying = np.array([5.0, 5.5, 5.2, 5.1, 5.2, 5.0])
    assert metrics["success_rate"] == 0.5
    assert metrics["crash_rate"] == 0.75
    assert metrics["lap_time_mean"] == pytest.approx(flying.mean(), rel=1e-5)
    assert metrics["lap_time_std"] == pytest.approx(flying.std(), rel=1e-4)
    assert metrics["lap_time_best"] == pytest.approx(5.0)
    assert metrics["launch_lap"] == pytest.approx(7.0)
    assert metrics["speed_max"] == 13.0
    config = RacingConfig()
    bound = lap_bound(config.track, config.quad, 0.15)
    assert bound is not None
    assert metrics["bound_s"] == bound
    assert metrics["above_bound_percent"] == pytest.approx(100 * (flying.mean() / bound - 1), rel=1e-4)
    assert metrics["margin_mean"] == pytest.approx(0.25)  # (0.1 + 0.2 + 0.3 + 0.4) / 4
    assert metrics["margin_min"] == pytest.approx(0.1)
    assert metrics["endings"] == {"rim_hit": 1, "ground": 1, "stalled": 1, "time_limit": 1}


def test_no_laps_no_times() -> None:
    metrics = summary_of(record(([], Ending.GROUND)))
    assert metrics["success_rate"] == 0.0
    assert metrics["lap_time_mean"] is None
    assert metrics["above_bound_percent"] is None
    assert metrics["bound_s"] is not None


def test_a_race_on_an_own_track_is_judged_without_a_bound() -> None:
    own = override(RacingConfig(), [f"track=file:{TRACKS / 'backyard.json'}", "quad.mass=0.7"])
    metrics = race_summary(own, record(([6.0, 4.0, 4.2], Ending.TIME_LIMIT)))
    assert metrics["bound_s"] is None and metrics["above_bound_percent"] is None
    assert metrics["success_rate"] == 1.0 and metrics["lap_time_mean"] == pytest.approx(4.1)


def test_a_lap_faster_than_physics_is_an_error() -> None:
    with pytest.raises(ImpossibleLapError):
        summary_of(record(([6.0, 4.0], Ending.TIME_LIMIT)))


def test_more_success_beats_faster_laps_beats_more_reward() -> None:
    def score(success: float, lap: float | None, total: float) -> tuple[float, ...]:
        metrics = {"success_rate": success, "lap_time_mean": lap, "return_nominal": total}
        return judge(RacingConfig(), metrics, lambda _: None).score

    assert score(0.5, None, 0.0) > score(0.4, 5.0, 99.0)
    assert score(0.5, 5.0, 0.0) > score(0.5, 5.1, 99.0) > score(0.5, None, 99.0) > score(0.5, None, 1.0)


class Shaky(AbstractPolicy[None, None]):
    """Its mode falls; what it draws climbs."""

    def initial(self) -> None:
        return None

    def __call__(
        self, carry: None, obs: Array, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[None, Array, None]:
        thrust = -1.0 if key is None else 1.0 + 0.01 * jr.normal(key)
        return None, jnp.stack([jnp.asarray(thrust), *jnp.zeros(3)]), None


def test_drawn_actions_are_judged_beside_the_mode() -> None:
    """From the same first states: the mode meets the ground, drawn actions the ceiling, a little later."""
    metrics = evaluator(RacingConfig(), 2)(Shaky(), jr.key(0)).metrics
    assert metrics["endings"] == {"ground": 2}
    assert metrics["sampled_crash_rate"] == 1.0 and metrics["sampled_success_rate"] == 0.0
    assert metrics["sampled_return_nominal"] != metrics["return_nominal"]
    assert metrics["sampled_gates_mean"] == 0.0 and metrics["sampled_margin_mean"] is None


class Constant(AbstractPolicy[None, None]):
    def initial(self) -> None:
        return None

    def __call__(
        self, carry: None, obs: Array, is_first: Bool[Array, ""], *, key: Key | None
    ) -> tuple[None, Array, None]:
        return None, jnp.array([-1.0, 0.0, 0.0, 0.0]), None


@pytest.mark.parametrize("task", [RacingConfig(), HoverConfig()], ids=["race", "hover"])
def test_a_drone_that_falls_is_judged_and_recorded(task: RacingConfig | HoverConfig, tmp_path) -> None:
    with jax.debug_nans(True):  # how users look for a NaN of their own
        judged = evaluator(task, 3)(Constant(), jr.key(0))
    assert judged.success == 0.0
    assert judged.metrics["crash_rate"] == 1.0
    assert judged.metrics.get("lap_time_mean") is None
    assert judged.row["eval/crash"] == 1.0
    assert "success 0%" in judged.headline
    judged.save_flights(tmp_path / "flights.npz")
    flights = load_flights(tmp_path / "flights.npz")
    assert len(flights) == 3
    fallen = flights[0]
    assert fallen.crashed
    assert fallen.vel_w[-1, 2] < -1.0
    np.testing.assert_allclose(np.diff(fallen.time), 0.02, rtol=1e-4)
    np.testing.assert_array_equal(fallen.action[0], [-1, 0, 0, 0])
    assert (load_track_geometry(tmp_path / "flights.npz") is not None) == isinstance(task, RacingConfig)


def test_agents_are_trained_on_races_of_their_own_but_judged_on_the_same() -> None:
    s5wm, ppo = (preset("race/split-s", agent).task for agent in ("s5wm", "ppo"))
    assert isinstance(s5wm, RacingConfig) and isinstance(ppo, RacingConfig)
    assert s5wm != ppo
    assert replace(s5wm.eval_config(), reward=ppo.reward, observation=ppo.observation) == ppo.eval_config()


def test_an_evaluation_that_is_no_number_is_never_the_best() -> None:
    from s5wm.envs.hover import HoverConfig

    score = HoverConfig().score
    assert score({"success_rate": 0.0, "return_nominal": 5.0}) > score({"return_nominal": float("nan")})
    assert score({"return_nominal": -1e30}) > score({"return_nominal": float("nan")})
