"""Times gradient updates of S5WM beside DreamerV3: sizes and chunk lengths.

Writes ``results/update/<platform>.json`` with raw samples; needs only the core's dependencies:

    python benchmarks/update.py [--sizes cpu 1m] [--lengths 16 64 256] [--seconds 2] [--output FILE]

The lengths are timed at the first size that is not ``cpu``, with the batch of the preset.  A budget of minutes ends the
run early, with what was measured written: ``--minutes``.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.random as jr

from s5wm.bench.lattice import dreamer_configs
from s5wm.bench.update import side_by_side
from s5wm.envs.racing.task import RacingConfig
from s5wm.provenance import provenance

AGENTS = ("s5wm", "dreamerv3")


def measure(size: str, length: int | None, seconds: float, per_call: int) -> dict[str, Any]:
    """Every agent at one size and chunk length."""
    configs = dreamer_configs(AGENTS, size, length=length)
    spec = RacingConfig().build().spec
    timed = side_by_side(configs, spec, seconds=seconds, per_call=per_call, key=jr.key(0))
    jax.clear_caches()
    return {"size": size, **timed}


def main() -> None:
    """Time and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["cpu", "1m"])
    parser.add_argument("--lengths", nargs="*", type=int, default=[16, 256])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--per-call", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--output", type=Path, default=Path(f"results/update/{jax.default_backend()}.json"))
    options = parser.parse_args()
    begun = time.monotonic()
    plans = [(size, None) for size in options.sizes]
    swept = next((size for size in options.sizes if size != "cpu"), options.sizes[0])
    plans += [(swept, length) for length in options.lengths]
    head = {**provenance(), "cpus": len(os.sched_getaffinity(0))}
    results: list[dict[str, Any]] = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for size, length in plans:
        if time.monotonic() - begun > 60 * options.minutes:
            print("out of time", flush=True)
            break
        results.append(measure(size, length, options.seconds, options.per_call))
        # After each, so that a run that is cut off keeps what it measured.
        options.output.write_text(json.dumps({**head, "results": results}, indent=1) + "\n")
        for name, own in results[-1]["agents"].items():
            print(
                f"{size:4} T {results[-1]['length']:5} {name:10} world model {own['world_model_ms']:9.2f} ms "
                f"({own['speedup_world_model']:.2f}x)  actor-critic {own['actor_critic_ms']:9.2f} ms  "
                f"update {own['update_ms']:9.2f} ms ({own['speedup_update']:.2f}x)",
                flush=True,
            )


if __name__ == "__main__":
    main()
