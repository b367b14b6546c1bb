"""Learning from fewer imagination starts: size 1m on the double integrator, at equal steps and updates.

Writes ``results/starts/<platform>.json``: for every number of starts and seed returns of greedy episodes, and minutes.

    python benchmarks/starts.py [--starts 256 32] [--seeds 0] [--env-steps 16384] [--runs FOLDER]

Windows are 8 x 32 instead of 16 x 64 and the learning rate is ten times the preset's, so that a CPU can afford it; a
run that was interrupted goes on.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import jax

from s5wm.api import configure
from s5wm.provenance import provenance
from s5wm.running import run_experiment
from s5wm.train.log import read_rows

TASK, AGENT, SIZE = "toy/double-integrator", "s5wm", "1m"
CURVE = ("env_steps", "updates", "minutes", "eval/return_nominal")


def record(starts: int, seed: int, env_steps: int, folder: Path) -> dict[str, Any]:
    """Train, and give the curve of evaluations."""
    changes = [
        f"agent.actor_critic.starts={starts}",
        "agent.replay.batch=8",
        "agent.replay.length=32",
        "agent.optimiser.learning_rate=4e-4",
        "train.iterations_per_chunk=2",
        "train.eval_every=1024",
        "train.checkpoint_every=4096",
    ]
    experiment = configure(TASK, AGENT, SIZE, seed=seed, budget=(env_steps, None), overrides=changes)
    path = folder / f"starts-{starts}-{seed}"
    run_experiment(experiment, path)
    rows = read_rows(path / "metrics.jsonl")
    return {
        "starts": starts,
        "seed": seed,
        "overrides": changes,
        "updates": rows[-1]["updates"],
        "minutes": rows[-1]["minutes"],
        "curve": [{name: row[name] for name in CURVE} for row in rows if "eval/return_nominal" in row],
    }


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", nargs="+", type=int, default=[256, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--env-steps", type=int, default=16384)
    parser.add_argument("--runs", type=Path, default=Path("runs/starts"))
    parser.add_argument("--output", type=Path, default=Path(f"results/starts/{jax.default_backend()}.json"))
    options = parser.parse_args()
    head = {**provenance(), "cpus": len(os.sched_getaffinity(0)), "task": TASK, "agent": AGENT, "size": SIZE}
    found: list[dict[str, Any]] = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for starts in options.starts:
            found.append(record(starts, seed, options.env_steps, options.runs))
            options.output.write_text(json.dumps({**head, "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
