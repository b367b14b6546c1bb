"""Times the environments without an agent: what `s5wm bench env` says, for every racing task, with raw samples.

Writes ``results/env/<platform>.json``:

    python benchmarks/env.py
"""

import argparse
import json
import os
from pathlib import Path

import jax
from checkout import ROOT

from s5wm.bench.env import time_env
from s5wm.runs.provenance import provenance

TASKS = ("race/split-s", "race/figure-8-state", "race/figure-8", "hover")
NUM_ENVS = (64, 256, 1024)
STEPS = {"race/figure-8": 10}  # per repeat, where 200 would take minutes: every step there is a picture


def main() -> None:
    """Time and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / f"results/env/{jax.default_backend()}.json")
    options = parser.parse_args()
    origin = provenance()
    results = []
    for task in TASKS:
        for num_envs in NUM_ENVS:
            timed = time_env(task, num_envs, steps=STEPS.get(task, 200), repeats=7)
            results.append({k: v for k, v in timed.items() if k not in origin})
            print(
                f"{task:22} {num_envs:5} environments {timed['env_steps_per_s']:12,.0f} steps/s", flush=True
            )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    cpus = len(os.sched_getaffinity(0))
    options.output.write_text(json.dumps({**origin, "cpus": cpus, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
