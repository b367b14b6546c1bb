"""Records what trainings came to: the evaluation of the best policy and the learning curve.

Writes ``results/learning/TASK-AGENT-SIZE-SEED.json`` for each finished run:

    python benchmarks/learning.py runs/split-s [--cpus 1]
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from s5wm.running import evaluate_run
from s5wm.train.log import read_rows

CURVE = (
    "env_steps",
    "minutes",
    "updates",
    "eval/success",
    "eval/lap_time",
    "eval/gates",
    "eval/return_nominal",
)
MASTERY = 0.9


def record(run: Path, cpus: int) -> dict[str, Any]:
    """Everything that tables and curves of this run need."""
    figures = evaluate_run(run)
    config = figures.pop("config")
    rows = read_rows(run / "metrics.jsonl")
    judged = [{name: row.get(name) for name in CURVE} for row in rows if "eval/success" in row]
    mastered = next((row for row in judged if row["eval/success"] >= MASTERY), None)
    return {
        "name": config["name"],
        "training_seed": config["seed"],
        "training_cpus": cpus,
        "evaluation": figures,
        "first_90_percent": mastered and {k: mastered[k] for k in ("env_steps", "minutes", "updates")},
        "trained": {k: rows[-1][k] for k in ("env_steps", "minutes", "updates")},
        "curve": judged,
        "config": config,
    }


def main() -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument(
        "--cpus", type=int, default=len(os.sched_getaffinity(0)), help="cores that the training had"
    )
    parser.add_argument("--output", type=Path, default=Path("results/learning"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for run in options.runs:
        result = record(run, options.cpus)
        name = result["name"]
        task = name["task"].replace("/", "-")
        file = options.output / f"{task}-{name['agent']}-{name['size']}-{result['training_seed']}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
