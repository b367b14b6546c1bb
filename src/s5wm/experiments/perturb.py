"""How a trained policy flies where the world is not as it was in training: ``s5wm eval --perturb``."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from s5wm.envs.racing.evaluation import LAPS_FOR_SUCCESS
from s5wm.envs.racing.laps import Ending
from s5wm.envs.racing.task import RacingConfig, RacingEnv
from s5wm.envs.racing.variation import VariationConfig
from s5wm.envs.racing.varied import VariedRace, ranges_of
from s5wm.envs.task import Episodes
from s5wm.errors import ConfigError
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.experiments.acting import TrainedAgent, Which, load_agent
from s5wm.runs.codec import encode, suggest
from s5wm.runs.provenance import provenance

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

STRENGTHS = (0.5, 1.0, 1.5)

ALL = "all"


def perturb_run(
    run: str | Path, suite: str, *, episodes: int, seed: int, which: Which, say: Callable[[str], None]
) -> dict[str, Any]:
    """Figures of a suite, or of all: as it is written down, then by suite and strength.

    Raises ``ConfigError`` where the policy flies no race by states, or there is no such suite.
    """
    if suite not in (*SUITES, ALL):
        raise ConfigError(f"--perturb {suite!r} is no suite" + suggest(suite, [ALL, *SUITES]))
    agent = load_agent(run, which=which, say=say)
    task = agent.experiment.task.eval_config()
    if not isinstance(task, RacingConfig) or task.camera is not None:
        raise ConfigError(
            f"{run} flies no race by states; --perturb varies the quadrotor and the gates of such a one"
        )
    names = list(SUITES) if suite == ALL else [suite]
    evaluate = _evaluator(agent, task, episodes, seed)
    say(f"compiling and flying {episodes} episodes of {1 + len(STRENGTHS) * len(names)} kinds ...")
    nominal = evaluate(VariationConfig())
    suites = {name: [evaluate(SUITES[name].scaled(strength)) for strength in STRENGTHS] for name in names}
    return {
        "run": str(run),
        "policy": agent.source.name,
        "episodes": episodes,
        "seed": seed,
        "strengths": list(STRENGTHS),
        "nominal": nominal,
        "suites": suites,
        "full_strength": {name: _changed(SUITES[name]) for name in names},
        **provenance(),
        "task": encode(task),
    }


def _evaluator(
    agent: TrainedAgent, task: RacingConfig, episodes: int, seed: int
) -> Callable[[VariationConfig], dict[str, Any]]:
    race = task.build()
    plan = EvalConfig(
        episodes=episodes, max_steps=task.max_steps, recorded=0, snapshot=lambda state: jnp.zeros(())
    )

    def evaluate(variation: VariationConfig) -> dict[str, Any]:
        flights = jax.device_get(
            run_episodes(VariedRace(race, ranges_of(variation)), agent.policy, plan, jr.key(seed))
        )
        return _figures(race, flights)

    return evaluate


def _figures(race: RacingEnv, flights: Episodes) -> dict[str, Any]:
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


def _changed(variation: VariationConfig) -> dict[str, float]:
    return {name: value for name, value in vars(variation).items() if value}
