"""Records what trainings came to: evaluations of the best and of the latest policy, and the learning curve.

Writes ``results/learning/TASK-AGENT-SIZE-SEED.json`` for each run:

    python benchmarks/learning.py runs/split-s [--note TEXT] [--settings NAME]

Settings that are not those of the preset have a name, which is part of the file's, too.
Environments of others go to ``--output results/gymnasium``.
"""

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from s5wm.experiments.policies import evaluate_run
from s5wm.experiments.run import ORIGIN
from s5wm.runs.files import read_json
from s5wm.runs.log import read_rows

CURVE = (
    "env_steps",
    "minutes",
    "updates",
    "eval/success",
    "eval/lap_time",
    "eval/gates",
    "eval/return_nominal",
    "eval/length",
    "eval/margin",
    "eval/sampled_success",
    "episode/gates",
    "episode/laps",
    "episode/crash",
)
MASTERY = 0.9


def record(run: Path, note: str, settings: str) -> dict[str, Any]:
    """Everything that tables and curves of this run need."""
    training = read_json(run / ORIGIN)
    metrics = evaluate_run(run)
    config = metrics.pop("config")
    with tempfile.TemporaryDirectory() as folder:  # the run's own files stay those of its best policy
        latest = evaluate_run(run, which="latest", out=Path(folder) / "latest")
    latest.pop("config")
    rows = read_rows(run / "metrics.jsonl")
    judged = [{name: row.get(name) for name in CURVE} for row in rows if "eval/return_nominal" in row]
    good = [(row["eval/success"] or 0.0) >= MASTERY for row in judged]
    first = good.index(True) if any(good) else None
    mastered = None if first is None else judged[first]
    later = [] if first is None else good[first + 1 :]
    return {
        "name": config["name"],
        "training_seed": config["seed"],
        "training": training,
        "note": note,
        "settings": settings,
        "finished": rows[-1]["env_steps"] >= config["train"]["env_steps"],
        "evaluation": metrics,
        "evaluation_latest": latest,
        "first_90_percent": mastered and {k: mastered[k] for k in ("env_steps", "minutes", "updates")},
        "share_90_percent_afterwards": sum(later) / len(later) if later else None,
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
    parser.add_argument("--note", default="", help="what a reader must know of this run")
    parser.add_argument("--settings", default="", help="name of settings that differ from the preset's")
    parser.add_argument("--output", type=Path, default=Path("results/learning"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for run in options.runs:
        result = record(run, options.note, options.settings)
        name = result["name"]
        arguments = result["config"]["task"].get("args", [])  # of an environment of others
        task = re.sub(r"[^\w.-]+", "-", "-".join([name["task"], *arguments]))
        agent = "-".join([name["agent"], *options.settings.split()])
        file = options.output / f"{task}-{agent}-{name['size']}-{result['training_seed']}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
