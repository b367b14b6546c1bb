"""Distils shipped policies into networks without memory, and flies both: what a student loses.

Writes ``results/deploy/students/<policy>.json``.

    python benchmarks/student.py [--policies split-s figure-8-state] [--units 64] [--flights 20]

The comparison of the export is in our compiled simulator; the exported C file of the student is then flown as
``benchmarks/transfer.py`` flies that of the policy: in the runtime, from the same starts.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from checkout import ROOT

from s5wm.deploy.export import export
from s5wm.deploy.runtime.fly import load_engine
from s5wm.deploy.runtime.trials import draw_starts, fly_trial, summary
from s5wm.deploy.student import StudentConfig
from s5wm.runs.provenance import provenance

SECONDS = 20.0


def main() -> None:
    """Distil, export, fly and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", nargs="+", default=("split-s", "figure-8-state"))
    parser.add_argument("--units", type=int, default=StudentConfig.units)
    parser.add_argument("--flights", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "results/deploy/students")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = StudentConfig(units=arguments.units)
    for policy in arguments.policies:
        with tempfile.TemporaryDirectory() as made:
            begun = time.perf_counter()
            done = export(f"pretrained/{policy}", Path(made), which="best", log=print, student=config)
            spent, engine = time.perf_counter() - begun, load_engine(Path(made), "c")
            starts = draw_starts(done.card, arguments.flights, seed=0)
            trials = [fly_trial(done.card, engine, None, start, SECONDS) for start in starts]
        assert done.card.imitation is not None
        metrics = {
            "policy": policy,
            "parameters": done.parameters,
            "config": asdict(config),
            "seconds_to_export": round(spent, 1),
            "imitation": asdict(done.card.imitation),
            "errors": {form: vars(each) for form, each in done.errors.items()},
            "runtime": summary(trials),
        }
        text = {**provenance(), "load": os.getloadavg(), **metrics}
        (arguments.out / f"{policy}.json").write_text(json.dumps(text, indent=2) + "\n")
        print(json.dumps(metrics), flush=True)


if __name__ == "__main__":
    main()
