"""Races with perturbed quadrotor, air, gates or start: ``s5wm eval --perturb``."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s5wm.envs.base import AbstractEnv
from s5wm.envs.racing.evaluation import LAPS_FOR_SUCCESS
from s5wm.envs.racing.laps import Ending
from s5wm.envs.racing.task import RacingConfig, RacingEnv
from s5wm.envs.racing.variation import VariationConfig
from s5wm.envs.racing.varied import VariedRace, ranges_of
from s5wm.envs.task import Episodes, Perturbations, Summary

SUITES: dict[str, VariationConfig] = {
    "start": VariationConfig(start_pos=0.5, start_vel=1.0, start_tilt=math.radians(20.0)),
    "mass": VariationConfig(mass=0.1),
    "thrust": VariationConfig(thrust=0.1),
    "inertia": VariationConfig(inertia=0.2),
    "drag": VariationConfig(drag=0.5),
    "motor": VariationConfig(motor=0.3),
    "battery": VariationConfig(battery=0.15),
    "delay": VariationConfig(delay_min=2.0, delay_max=2.0),
    "wind": VariationConfig(wind=3.0),
    "noise": VariationConfig(position_noise=0.02, velocity_noise=0.1, attitude_noise=math.radians(1.0)),
    "gates": VariationConfig(gates=0.2),
    "map": VariationConfig(map_error=0.2),
}
"""At full strength; ``delay`` is 40 ms, ``map`` moves gates that the policy still sees where they ought to be."""


def perturbations(config: RacingConfig) -> Perturbations:
    """Of one race."""
    race = config.build()

    def build(suite: str | None, strength: float) -> AbstractEnv[Any]:
        variation = VariationConfig() if suite is None else SUITES[suite].scaled(strength)
        return VariedRace(race, ranges_of(variation))

    changed = {
        name: {key: value for key, value in vars(suite).items() if value} for name, suite in SUITES.items()
    }
    return Perturbations(
        suites=changed,
        build=build,
        summary=lambda episodes: _summary(race, episodes),
        caption="success is three laps in a row   ·   lap in s",
    )


def _summary(race: RacingEnv, flights: Episodes) -> Summary:
    record = jax.vmap(race.flight_record)(jax.tree.map(jnp.asarray, flights.final.inner))
    laps = np.asarray(record.lap_times, np.float64)[np.asarray(record.has_flying_lap)]
    endings = np.asarray(record.ending)
    return {
        "success_rate": float(np.mean(np.asarray(record.laps) >= LAPS_FOR_SUCCESS)),
        "crash_rate": float(np.mean(record.crash)),
        "laps_mean": float(np.mean(record.laps)),
        "gates_mean": float(np.mean(record.gates)),
        "lap_time_mean": float(laps.mean()) if laps.size else None,
        "endings": {e.name.lower(): int(np.sum(endings == e)) for e in Ending if np.any(endings == e)},
    }
