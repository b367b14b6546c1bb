"""Times what a user waits for before anything happens, in seconds of the processor, with and without the cache.

Writes ``results/startup/<platform>.json``: for help, lists and ``import s5wm``, and for ``eval``, ``train`` with one
iteration and its evaluation, and ``imagine`` without a cache (``off``), with one that is ``empty`` and with one that
the start before has ``filled``.

    python benchmarks/startup.py [--repeats 5] [--heavy-repeats 1] [--caches off empty filled] [--runs FOLDER]

Seconds of the processor, of all threads, so that work beside it counts little; wall time is kept too.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from checkout import ROOT

TASK, AGENT, SIZE = "race/split-s", "s5wm", "cpu"
PYTHON = [sys.executable]
LIGHT: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "import s5wm": ["-c", "import s5wm"],
    "s5wm --help": ["-m", "s5wm", "--help"],
    "s5wm --version": ["-m", "s5wm", "--version"],
    "s5wm list": ["-m", "s5wm", "list"],
    "s5wm train --help": ["-m", "s5wm", "train", "--help"],
}
EXTRAS = ("gymnasium", "matplotlib", "rich", "tyro", "tensorboardX")

Sample = dict[str, float]


def timed(arguments: list[str], environ: dict[str, str], log: Path) -> Sample:
    """One start: seconds of the processor and of the clock; raises where it fails."""
    begun = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen([*PYTHON, *arguments], env=environ, stdout=file, stderr=file)
        _, status, used = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(arguments)} ended with {code}: {log.read_text()[-2000:]}")
    cpu = used.ru_utime + used.ru_stime
    return {"cpu_s": round(cpu, 3), "wall_s": round(time.monotonic() - begun, 3)}


def result(command: str, cache: str, samples: list[Sample]) -> dict[str, Any]:
    """Medians and what they are medians of."""
    medians = {name: statistics.median(sample[name] for sample in samples) for name in ("cpu_s", "wall_s")}
    print(f"{command:<44} cache {cache:<7} {medians['cpu_s']:8.2f} s of CPU", flush=True)
    return {"command": command, "cache": cache, **medians, "samples": samples}


def heavy(runs: Path, steps: int) -> dict[str, list[str]]:
    """The commands that compile, in an order in which each finds what it needs."""
    run = str(runs / "run")
    return {
        "s5wm eval pretrained/split-s": ["eval", "pretrained/split-s", "--json"],
        f"s5wm train {TASK}, one iteration": [
            *("train", TASK, "--agent", AGENT, "--size", SIZE, "--override", "train.iterations_per_chunk=1"),
            *("--env-steps", str(steps), "--run", run, "--json"),
        ],
        "s5wm imagine RUN": ["imagine", run, "--json"],
    }


def measure(options: argparse.Namespace, runs: Path) -> None:
    """Time and write; ``runs`` is a folder of this measurement alone."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    log = runs / "log"
    results = [
        result(command, "none", [timed(arguments, own, log) for _ in range(options.repeats)])
        for command, arguments in LIGHT.items()
    ]
    from s5wm.experiments.presets import preset
    from s5wm.runs.provenance import provenance

    origin = provenance()
    train = preset(TASK, AGENT, SIZE).train
    steps = train.num_envs * train.rollout_length
    about = {
        "cpus": len(os.sched_getaffinity(0)),
        "installed": [name for name in EXTRAS if find_spec(name)],
        "config": {"task": TASK, "agent": AGENT, "size": SIZE, "env_steps": steps},
    }
    output = options.output or ROOT / f"results/startup/{origin['platform']}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    kept = (runs / "cache").resolve()
    for command, arguments in heavy(runs, steps).items():
        samples: dict[str, list[Sample]] = {cache: [] for cache in options.caches}
        for _ in range(options.heavy_repeats):
            shutil.rmtree(kept, ignore_errors=True)
            for cache, own_samples in samples.items():
                if arguments[0] == "train":
                    shutil.rmtree(runs / "run", ignore_errors=True)
                environ = own | {"S5WM_CACHE": "off" if cache == "off" else str(kept)}
                own_samples.append(timed(["-m", "s5wm", *arguments], environ, log))
        results += [result(command, cache, own_samples) for cache, own_samples in samples.items()]
        output.write_text(json.dumps({**origin, **about, "results": results}, indent=1) + "\n")


def main() -> None:
    """Time and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--heavy-repeats", type=int, default=1)
    parser.add_argument("--caches", nargs="+", default=["off", "empty", "filled"])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where a folder is made, and removed")
    parser.add_argument("--output", type=Path, default=None, help="default: results/startup/PLATFORM.json")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.runs, prefix="startup-") as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
