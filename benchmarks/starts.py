"""Learning from fewer imagination starts: size 1m on the double integrator, at equal steps and updates.

Writes ``results/starts/<platform>.json``: for every number of starts and seed returns of greedy episodes, and minutes.

    python benchmarks/starts.py [--starts 256 32] [--seeds 0] [--env-steps 16384] [--runs FOLDER]

Windows are 8 x 32 instead of 16 x 64 and the learning rate is ten times the preset's, so that a CPU can afford it; a
run that was interrupted goes on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
from checkout import ROOT

from s5wm.experiments.configure import configure
from s5wm.experiments.run import run_experiment
from s5wm.runs.directory import lives
from s5wm.runs.log import read_rows
from s5wm.runs.provenance import provenance

TASK, AGENT, SIZE = "toy/double-integrator", "s5wm", "1m"
CHANGES = (
    "agent.replay.batch=8",
    "agent.replay.length=32",
    "agent.optimiser.learning_rate=4e-4",
    "train.iterations_per_chunk=2",
    "train.eval_every=1024",
    "train.checkpoint_every=4096",
)
CURVE = ("env_steps", "updates", "minutes", "eval/return_nominal")


def trained(starts: int, seed: int, env_steps: int, path: Path) -> bool:
    """Train, or go on where that stopped; False where it was stopped."""
    rows = read_rows(path / "metrics.jsonl")
    if rows and rows[-1]["env_steps"] >= env_steps:
        return True
    changes = (f"agent.actor_critic.num_imagination_starts={starts}", *CHANGES)
    return run_experiment(
        configure(TASK, AGENT, SIZE, seed=seed, budget=(env_steps, None), overrides=changes), path
    )


def record(starts: int, seed: int, path: Path) -> dict[str, Any]:
    """The curve of evaluations, and where it was trained."""
    rows = read_rows(path / "metrics.jsonl")
    return {
        "starts": starts,
        "seed": seed,
        "lives": lives(path),
        "updates": rows[-1]["updates"],
        "minutes": rows[-1]["minutes"],
        "curve": [{name: row[name] for name in CURVE} for row in rows if "eval/return_nominal" in row],
    }


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", nargs="+", type=int, default=[256, 128, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--env-steps", type=int, default=16384)
    parser.add_argument("--runs", type=Path, default=Path("runs/starts"))
    parser.add_argument("--output", type=Path, default=ROOT / f"results/starts/{jax.default_backend()}.json")
    parser.add_argument(
        "--note", default="", help="what a reader must know, as of other work that ran beside"
    )
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in options.seeds:
        for starts in options.starts:
            path = options.runs / f"starts-{starts}-{seed}"
            if not trained(starts, seed, options.env_steps, path):
                raise SystemExit(f"stopped; the same command goes on ({path})")
            found.append(record(starts, seed, path))
    about = {"task": TASK, "agent": AGENT, "size": SIZE, "overrides": CHANGES, "note": options.note}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**provenance(), **about, "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
