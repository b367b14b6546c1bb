"""Measures exported policies: accuracy, size, time of a step, and the runtime at a fixed rate beside a busy core.

Writes ``results/deploy/<platform>.json``.

    python benchmarks/deploy.py [--seconds 60] [--rate 100] [--priority 50] [--policies split-s ...]

The time of a C step is taken inside one process of its own, step by step.  Beside the runtime a process of the same
priority class as any other computes on the same core.  Sizes are those of an object file without its self-test.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from checkout import ROOT
from output import complete, keep

from s5wm.deploy.card import FlightCard
from s5wm.deploy.export import export
from s5wm.deploy.golden import Golden
from s5wm.deploy.runtime.engines import C_FLAGS, CEngine, Engine, OnnxEngine, find_compiler
from s5wm.deploy.runtime.fly import FlightPlan, fly_simulated, load_engine
from s5wm.deploy.runtime.guard import Limits
from s5wm.deploy.runtime.logbook import Logbook, Outcome
from s5wm.deploy.runtime.loop import Clock, Loop
from s5wm.deploy.runtime.pilot import Pilot
from s5wm.deploy.runtime.realtime import set_priority
from s5wm.deploy.runtime.simulation import Simulation
from s5wm.runs.provenance import provenance

STEPS = 5000
KEPT = ("#define POLICY_MEMORY ", "#define POLICY_SCRATCH ")
CORTEX = ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")

TIMER = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#include "policy.h"
static policy_state state;
static policy_obs obs[POLICY_OBS];
int main(void)
{
    float action[POLICY_ACTIONS];
    int i;
    policy_reset(&state);
    for (i = 0; i < %d; ++i) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        policy_step(&state, obs, action);
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%%ld\\n", (b.tv_sec - a.tv_sec) * 1000000000L + (b.tv_nsec - a.tv_nsec));
    }
    return 0;
}
"""


def quantiles(seconds: np.ndarray) -> dict[str, float]:
    """In microseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e6
    return {"p50_us": round(float(p50), 2), "p99_us": round(float(p99), 2)}


def c_step(folder: Path) -> dict[str, float]:
    """One step of the C policy, timed in C."""
    with tempfile.TemporaryDirectory() as made:
        main, program = Path(made) / "main.c", Path(made) / "main"
        main.write_text(TIMER % STEPS)
        sources = [str(main), str(folder / "policy.c"), f"-I{folder}"]
        subprocess.run([str(find_compiler()), *C_FLAGS, *sources, "-lm", "-o", str(program)], check=True)
        out = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return quantiles(np.array(out.split(), float) * 1e-9)


def python_step(engine: Engine, golden: Golden) -> dict[str, float]:
    """One step of an engine as the runtime calls it."""
    spent = np.empty(len(golden.action))
    for index, inputs in enumerate(zip(*golden.inputs, strict=True)):
        begin = time.perf_counter()
        engine.step(*inputs)
        spent[index] = time.perf_counter() - begin
    return quantiles(spent)


def object_size(folder: Path, compiler: str, *flags: str) -> dict[str, int] | None:
    """Bytes of code with constants, and of the state that the caller keeps; None without that compiler."""
    prefix = "arm-none-eabi-" if compiler.startswith("arm") else ""
    if shutil.which(compiler) is None:
        return None
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "policy.o"
        command = [compiler, *C_FLAGS, *flags, "-DPOLICY_NO_SELFTEST", "-c", "-o", str(file)]
        subprocess.run([*command, str(folder / "policy.c")], check=True)
        out = subprocess.run([f"{prefix}size", str(file)], check=True, capture_output=True, text=True).stdout
    text, data, bss = (int(word) for word in out.splitlines()[1].split()[:3])
    header = (folder / "policy.h").read_text()
    floats = sum(int(line.split()[2]) for line in header.splitlines() if line.startswith(KEPT))
    return {"code_and_weights": text + data, "static": bss, "state": 4 * floats}


@contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes on the core of this one."""
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    process = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"])
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        process.kill()
        process.wait()


def runtime(folder: Path, card: FlightCard, *, rate: float, seconds: float, priority: int) -> dict[str, Any]:
    """The loop with the C policy at ``rate`` Hz, on a drone that stands still."""
    limits, clock = Limits(hold=10**9), Clock()  # the policy is timed: it never hands over to the hover
    pilot = Pilot(card, load_engine(folder, "c"), limits)
    assert card.vehicle is not None and card.track is not None
    pilot.warm_up()
    target = Simulation(card.vehicle, card.track, clock, obeys=False)
    logbook = Logbook(card, limits.deadline)
    with busy_core():  # before the priority is set, which it would inherit
        set_priority(priority)
        try:
            Loop(pilot, target, clock, 1.0 / rate, logbook.add).run(seconds)
        finally:
            set_priority(0)
    metrics = logbook.summary(Outcome("", 0, ()))
    kept = ("periods", "periods_skipped", "deadline_ms", "deadline_misses", "latency_ms", "wake_ms", "modes")
    return {"rate_hz": rate, "seconds": seconds, "priority": priority} | {
        name: metrics[name] for name in kept
    }


def measured(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one shipped policy."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / name
        done = export(f"pretrained/{name}", folder, which="best", log=print)
        golden, card = Golden.load(folder / "golden.npz"), done.card
        metrics: dict[str, Any] = {
            "policy": name,
            "parameters": done.parameters,
            "memory": card.memory_size,
            "errors": {form: vars(each) for form, each in done.errors.items()},
            "c_step": c_step(folder),
            "c_step_from_python": python_step(CEngine(folder), golden),
            "onnx_step_from_python": python_step(OnnxEngine(folder / "policy.onnx"), golden),
            "size_x86_64": object_size(folder, "gcc"),
            "size_cortex_m7": object_size(folder, "arm-none-eabi-gcc", *CORTEX),
            "onnx_bytes": (folder / "policy.onnx").stat().st_size,
        }
        if card.observation.layout in ("A", "B", "C"):
            plan = FlightPlan(engine="c", fast=True)
            flight = fly_simulated(folder, plan, Path(made) / "flight", log=print)
            metrics["flight"] = {each: flight[each] for each in ("gates", "lap_times", "ending")}
            metrics["runtime"] = [
                runtime(folder, card, rate=arguments.rate, seconds=arguments.seconds, priority=priority)
                for priority in sorted({0, arguments.priority})
            ]
    print(json.dumps(metrics), flush=True)
    return metrics


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--priority", type=int, default=50)
    parser.add_argument("--policies", nargs="+", default=["split-s", "figure-8-state", "figure-8"])
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    set_priority(arguments.priority)  # refused now, or it would be after the first export
    set_priority(0)
    about, results = provenance(), list[dict[str, Any]]()
    out = arguments.out or ROOT / f"results/deploy/{about['platform']}.json"
    for name in arguments.policies:
        results.append(measured(name, arguments))
        keep(out, {**about, "load": os.getloadavg(), "results": results}, indent=2)
    complete(out)


if __name__ == "__main__":
    main()
