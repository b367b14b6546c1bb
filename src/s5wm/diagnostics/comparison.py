"""Comparison of the world models of several runs on the same flights.

Every run's policy flies its share, and every world model foresees all of them: flights of one policy alone would
favour the model that was trained on such flights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.diagnostics.forecast import seen_by
from s5wm.diagnostics.loaded import LoadedRun, tested
from s5wm.diagnostics.run import LONGEST, SEED, fly_streams, measure, sizes, stream_of
from s5wm.envs.host import HostEnv
from s5wm.errors import ConfigError
from s5wm.runs.codec import Warn
from s5wm.runs.files import plain
from s5wm.runs.provenance import provenance
from s5wm.types import Transition


def compare_imagination(
    runs: Sequence[str | Path],
    horizon: int = 50,
    episodes: int = 20,
    *,
    seed: int = SEED,
    warn: Warn = lambda _: None,
) -> dict[str, Any]:
    """``imagine_run`` of several runs of one task: the metrics of each under ``agents``, in the order of ``runs``.

    ``episodes`` are flown by every policy, with the same initial conditions.
    """
    loaded = [LoadedRun.load(run, warn) for run in runs]
    names = _names(runs, loaded)
    first, spec = loaded[0], loaded[0].agent.spec
    for other, name in zip(loaded, names, strict=True):
        if other.experiment.task.eval_config() != first.experiment.task.eval_config():
            raise ConfigError(f"{name} was trained on another task than {names[0]}; compare runs of one task")
        if spec.has_images and other.agent.config.world_model.target == "observation":
            raise ConfigError(
                f"{name} decodes images; side by side, positions and velocities are measured: compare s5wm-p and "
                "dreamerv3-p, which decode the privileged state"
            )
    length = first.check(horizon, episodes)
    k_fly, k_report = jr.split(jr.key(seed))
    env = stream_of(tested(first.experiment))
    if isinstance(env, HostEnv):
        length = max(min(length, LONGEST), horizon + 1)
    flown: list[Transition[Any]] = [
        fly_streams(env, one.policy, episodes=episodes, length=length, key=k_fly) for one in loaded
    ]
    timestep, action = jax.tree.map(
        lambda *parts: jnp.concatenate(parts), *[(each.timestep, each.action) for each in flown]
    )
    pooled = Transition(timestep, action, None)
    agents = {}
    for one, name in zip(loaded, names, strict=True):
        _, measured = measure(one, seen_by(one.model, pooled), horizon, k_report)
        agents[name] = {"checkpoint": one.checkpoint, **one.about, **measured}
    return plain(
        {
            "task": first.experiment.name.task,
            "horizon": horizon,
            "ctrl_dt": env.spec.ctrl_dt,
            **sizes(pooled),
            "seed": seed,
            "agents": agents,
            **provenance(),
        }
    )


def _names(runs: Sequence[str | Path], loaded: Sequence[LoadedRun]) -> list[str]:
    """Agent and size; also the directory where runs share them."""
    short = [f"{one.experiment.name.agent} {one.experiment.name.size}" for one in loaded]
    long = [f"{name} ({run})" for name, run in zip(short, runs, strict=True)]
    if repeated := [name for name in long if long.count(name) > 1]:
        raise ConfigError(f"{repeated[0]} was given twice; name each run once")
    return short if len(set(short)) == len(short) else long
