"""Evaluation under perturbations that were not in training: ``s5wm eval --perturb``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from s5wm.envs.task import Perturbations, Summary
from s5wm.errors import ConfigError
from s5wm.evaluation.rollout import EvalConfig, run_episodes
from s5wm.experiments.trained import TrainedAgent, Which, load_agent
from s5wm.runs.codec import encode, suggest
from s5wm.runs.provenance import provenance

STRENGTHS = (0.5, 1.0, 1.5)

ALL = "all"


def perturb_run(
    run: str | Path, suite: str, *, episodes: int, seed: int, which: Which, log: Callable[[str], None]
) -> dict[str, Any]:
    """Metrics of a suite, or of all: nominal, then by suite and strength.

    Raises ``ConfigError`` where the task has no perturbations, or no such suite.
    """
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes}; it must be at least 1")
    agent = load_agent(run, which=which, warn=log)
    task = agent.experiment.task.eval_config()
    known = task.perturbations()
    if known is None:
        raise ConfigError(f"the task of {run} has nothing that --perturb changes; a race by states has")
    if suite not in (*known.suites, ALL):
        raise ConfigError(f"--perturb {suite!r} is no suite" + suggest(suite, [ALL, *known.suites]))
    names = list(known.suites) if suite == ALL else [suite]
    evaluate = _evaluator(agent, known, task.max_steps, episodes, seed)
    log(f"compiling and flying {episodes} episodes of {1 + len(STRENGTHS) * len(names)} kinds ...")
    nominal = evaluate(None, 0.0)
    suites = {name: [evaluate(name, strength) for strength in STRENGTHS] for name in names}
    return {
        "run": str(run),
        "policy": agent.source.name,
        "episodes": episodes,
        "seed": seed,
        "strengths": list(STRENGTHS),
        "nominal": nominal,
        "suites": suites,
        "full_strength": {name: dict(known.suites[name]) for name in names},
        "caption": known.caption,
        **provenance(),
        "task": encode(task),
    }


def _evaluator(
    agent: TrainedAgent, known: Perturbations, max_steps: int, episodes: int, seed: int
) -> Callable[[str | None, float], Summary]:
    plan = EvalConfig(
        episodes=episodes, max_steps=max_steps, recorded=0, snapshot=lambda state: jnp.zeros(())
    )

    def evaluate(suite: str | None, strength: float) -> Summary:
        env = known.build(suite, strength)
        return known.summary(jax.device_get(run_episodes(env, agent.policy, plan, jr.key(seed))))

    return evaluate
