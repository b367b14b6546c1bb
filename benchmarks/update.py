"""Times gradient updates of S5WM beside DreamerV3: sizes and chunk lengths, from vectors and from images.

Writes ``results/update/<platform>.json`` with raw samples; needs only the core's dependencies.  The picture is drawn
where matplotlib is installed, or later with ``--draw``:

    python benchmarks/update.py [--sizes cpu 1m] [--lengths 16 64 256 1024] [--sweep-parts world_model] [--output FILE]
    python benchmarks/update.py --draw results/update/cpu.json

Every size is timed at the batch and length of its preset, then ``--sweep`` ones over the lengths.  A budget of minutes
ends the run early: ``--minutes``.  Until everything is measured the file is named ``.json.partial``; rename one that is
to be kept as it is.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
from checkout import ROOT
from output import complete, keep, partial

from s5wm.bench.agents import dreamer_configs
from s5wm.bench.uncached import uncached
from s5wm.bench.update import PARTS, side_by_side
from s5wm.experiments.presets import task_config
from s5wm.runs.provenance import provenance

STATE, VISION = "race/split-s", "race/figure-8"
PER_CALL = {"12m": 1}
"""Updates per call of the compiled program; of sizes that are not named 4, to whose milliseconds a call would add."""

AGENTS = {STATE: ("s5wm", "dreamerv3"), VISION: ("s5wm-p", "dreamerv3-p")}


def measure(task: str, size: str, length: int | None, parts: Sequence[str], seconds: float) -> dict[str, Any]:
    """Every agent at one size and chunk length, on made-up observations of a task."""
    spec = task_config(task).build().spec
    configs = dreamer_configs(AGENTS[task], size, task, length=length)
    per_call = PER_CALL.get(size, 4)
    with uncached():
        timed = side_by_side(configs, spec, parts=parts, seconds=seconds, per_call=per_call, key=jr.key(0))
    jax.clear_caches()
    return {"task": task, "size": size, **timed}


def draw(file: Path) -> None:
    """The picture of these results, beside the tables of the docs."""
    from s5wm.plots.style import house_style, save_figure
    from s5wm.plots.updates import draw_updates

    timed = json.loads(file.read_text())
    device = f"{timed['device']}, {timed['cpus']} core(s)" if timed["platform"] == "cpu" else timed["device"]
    with house_style():
        drawn = save_figure(draw_updates(device, timed["results"]), ROOT / f"docs/images/updates-{file.stem}")
    drawn[1].unlink()  # the pages show the PNG
    print(f"drawn: {drawn[0]}", flush=True)


def main() -> None:
    """Time and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["cpu", "1m"])
    parser.add_argument("--vision", nargs="*", default=["cpu"], help="sizes of the agents that see images")
    parser.add_argument("--sweep", nargs="*", help="sizes over which the lengths go; default: all")
    parser.add_argument("--lengths", nargs="*", type=int, default=[16, 64, 256, 1024])
    parser.add_argument("--sweep-parts", nargs="+", default=["world_model"], choices=PARTS)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--output", type=Path, default=ROOT / f"results/update/{jax.default_backend()}.json")
    parser.add_argument("--draw", type=Path, help="only draw this file")
    options = parser.parse_args()
    if options.draw:
        draw(options.draw)
        return
    begun = time.monotonic()
    plans = [(STATE, size, None, PARTS) for size in options.sizes]
    plans += [(VISION, size, None, PARTS) for size in options.vision]
    swept = options.sizes if options.sweep is None else options.sweep
    plans += [(STATE, size, length, options.sweep_parts) for length in options.lengths for size in swept]
    head = {**provenance(), "cpus": len(os.sched_getaffinity(0))}
    results: list[dict[str, Any]] = []
    for task, size, length, parts in plans:
        if time.monotonic() - begun > 60 * options.minutes:
            print(f"out of time; what was measured is in {partial(options.output)}", flush=True)
            return
        results.append(measure(task, size, length, parts, options.seconds))
        # After each, so that a run that is cut off keeps what it measured.
        keep(options.output, {**head, "results": results})
        for name, own in results[-1]["agents"].items():
            times = "  ".join(
                f"{part} {own[f'{part}_ms']:9.2f} ms ({own[f'speedup_{part}']:.2f}x)" for part in parts
            )
            print(f"{task} {size:4} T {results[-1]['length']:5} {name:10} {times}", flush=True)
    complete(options.output)
    if find_spec("matplotlib"):
        draw(options.output)


if __name__ == "__main__":
    main()
