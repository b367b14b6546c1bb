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

from checkout import ROOT
from mastery import mastery

from s5wm.experiments.policies import evaluate_run
from s5wm.runs.directory import lives
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


def record(run: Path, note: str, settings: str) -> dict[str, Any]:
    """Everything that tables and curves of this run need; ``training`` is its first life."""
    training, kept = lives(run), run / "eval.json"
    if not training:
        raise SystemExit(f"{run} has no origin.json: where and by which commit it was trained is not known")
    with tempfile.TemporaryDirectory() as folder:  # the run's own files stay those of its end
        metrics = evaluate_run(run, out=Path(folder) / "best")
        latest = evaluate_run(run, which="latest", out=Path(folder) / "latest")
    config = metrics.pop("config")
    latest.pop("config")
    rows = read_rows(run / "metrics.jsonl")
    judged = [{name: row.get(name) for name in CURVE} for row in rows if "eval/return_nominal" in row]
    mastered = mastery(judged)
    first = mastered and {k: mastered.first[k] for k in ("env_steps", "minutes", "updates")}
    return {
        "name": config["name"],
        "training_seed": config["seed"],
        "training": training[0],
        "lives": training,
        "note": note,
        "settings": settings,
        "finished": rows[-1]["env_steps"] >= config["train"]["env_steps"],
        "evaluation": metrics,
        "evaluation_latest": latest,
        # How the training chose between its best and its latest policy, if they were two.
        "compared": read_json(kept).get("compared") if kept.is_file() else None,
        "first_90_percent": first and mastered and {**first, "env_steps_before": mastered.before},
        "share_90_percent_afterwards": mastered and mastered.share_later,
        "evaluations_afterwards": mastered and mastered.later,
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
    parser.add_argument("--output", type=Path, default=ROOT / "results/learning")
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
