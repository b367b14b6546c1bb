"""Compares the compiled path of two commits: environment steps and updates per second, and the time to compile.

Both are timed by their own `s5wm bench env` and `s5wm bench loop`, in turns, each without a cache of compiled programs,
with the packages of this environment.  Writes ``results/versions/<platform>.json``:

    python benchmarks/versions.py 9c53765
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import jax
from checkout import ROOT

from s5wm.runs.provenance import provenance

# Presets of a race have changed since, that of hovering has not.
COMMANDS = {
    "environment": ("env", "--task", "race/figure-8-state", "--num-envs", "256", "--repeats", "7"),
    "s5wm": ("loop", "--task", "hover", "--agents", "s5wm", "--repeats", "5"),
    "ppo": ("loop", "--task", "hover", "--agents", "ppo", "--repeats", "5"),
}
FIELDS = ("env_steps_per_s", "updates_per_s", "first_chunk_s")


def main() -> None:
    """Time both in turns and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="times that both take their turn (default: 3)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / f"results/versions/{jax.default_backend()}.json"
    )
    options = parser.parse_args()
    samples: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        trees = {"base": _checked_out(ROOT, options.base, Path(folder) / "base"), "now": ROOT}
        for turn in range(options.rounds):
            for name, command in COMMANDS.items():
                for tree, path in trees.items():
                    timed = _timed(path, command)
                    samples.setdefault(name, {}).setdefault(tree, []).append(timed)
                    print(f"{turn + 1}/{options.rounds} {name:11} {tree:4}", timed, flush=True)
    results = {name: _compared(of) for name, of in samples.items()}
    facts = {**provenance(), "cpus": len(os.sched_getaffinity(0)), "base": options.base}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**facts, "results": results, "samples": samples}, indent=1) + "\n")


def _checked_out(repository: Path, commit: str, folder: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(repository), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "-q", commit], check=True)
    return folder


def _timed(tree: Path, command: tuple[str, ...]) -> dict[str, float]:
    """The numbers that one ``s5wm bench`` prints."""
    env = {**os.environ, "PYTHONPATH": str(tree / "src"), "JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "s5wm", "bench", *command, "--json"],
        env=env,
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    printed: dict[str, Any] = json.loads(done.stdout)
    (row,) = printed.get("agents", {"": printed}).values()
    return {field: float(row[field]) for field in FIELDS if field in row}


def _compared(samples: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of both, and their ratio."""
    fields = samples["now"][0]
    medians = {
        tree: {field: median(row[field] for row in rows) for field in fields}
        for tree, rows in samples.items()
    }
    ratio = {field: medians["now"][field] / medians["base"][field] for field in fields}
    return {**medians, "now / base": ratio}


if __name__ == "__main__":
    main()
