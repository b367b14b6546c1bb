"""Is the runtime on time?  An exported policy at a fixed rate beside a busy core, and a witness of what the core did.

The witness is a C program of a higher priority on the same core.  It does nothing but wake up every millisecond and
note where it could not: in such a pause no program of this machine ran, whatever its priority, as when the host of a
virtual machine gives the core to another.  A late or skipped period is excused only where it would have met its
deadline without such pauses.

Writes ``results/deploy/punctual.json``; needs root or an rtprio limit.

    python benchmarks/punctual.py [--seconds 600] [--rate 100] [--policy split-s] [--export DIR]
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from checkout import ROOT

from s5wm.deploy.runtime.engines import C_FLAGS, find_compiler
from s5wm.deploy.runtime.fly import load_engine, open_export
from s5wm.deploy.runtime.guard import Limits
from s5wm.deploy.runtime.logbook import Logbook, Outcome
from s5wm.deploy.runtime.loop import Clock, Loop, Period
from s5wm.deploy.runtime.pilot import Pilot
from s5wm.deploy.runtime.realtime import Disturbances, lock_memory, set_priority, unlock_memory
from s5wm.deploy.runtime.simulation import Simulation
from s5wm.runs.provenance import provenance

PRIORITY = 50
NEVER = 10**9
"""Bad periods in a row: the policy is timed, so a pause of the core must not hand over to the hover."""

PAUSE = 2e-4
"""s that the witness has to wake late for a pause; on a core that nobody holds up it takes 0.05 ms."""

WITNESS = """
#define _POSIX_C_SOURCE 200112L
#include <signal.h>
#include <stdio.h>
#include <time.h>
static volatile sig_atomic_t stop;
static void end(int number) { (void)number; stop = 1; }
int main(void)
{
    struct timespec next, now;
    signal(SIGTERM, end);
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!stop) {
        double late;
        next.tv_nsec += 1000000L;
        if (next.tv_nsec >= 1000000000L) { next.tv_nsec -= 1000000000L; next.tv_sec++; }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        late = (double)(now.tv_sec - next.tv_sec) + 1e-9 * (double)(now.tv_nsec - next.tv_nsec);
        if (late > %g) printf("%%.9f %%.9f\\n", (double)next.tv_sec + 1e-9 * (double)next.tv_nsec, late);
        if (late > 1e-3) next = now;
    }
    return 0;
}
"""


@contextmanager
def company(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that computes, and the witness, on the core of this process."""
    core, before = min(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    source, program = folder / "witness.c", folder / "witness"
    source.write_text(WITNESS % PAUSE)
    subprocess.run([str(find_compiler()), *C_FLAGS, str(source), "-o", str(program)], check=True)
    busy = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"])
    command = ["taskset", "-c", str(core), "chrt", "-f", str(PRIORITY + 1), str(program)]
    witness = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, {core})
    try:
        yield witness
    finally:
        os.sched_setaffinity(0, before)
        busy.kill()
        busy.wait()
        if witness.poll() is None:
            witness.terminate()
            witness.communicate()


def flown(folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Figures of one run."""
    card, limits, clock = open_export(folder), Limits(hold=NEVER), Clock()
    pilot = Pilot(card, load_engine(folder, "c"), limits)
    assert card.vehicle is not None and card.track is not None
    target = Simulation(card.vehicle, card.track, clock, obeys=False)
    logbook, starts = Logbook(card, limits.deadline), list[float]()

    def remember(period: Period) -> None:
        starts.append(clock.now() - period.latency)
        logbook.add(period)

    pilot.warm_up()
    with tempfile.TemporaryDirectory() as made, company(Path(made)) as witness:
        set_priority(PRIORITY)
        locked = lock_memory()
        gc.collect()
        gc.freeze()
        before = Disturbances.so_far()
        try:
            Loop(pilot, target, clock, 1.0 / rate, remember).run(seconds)
        finally:
            disturbances = Disturbances.so_far().since(before)
            set_priority(0)
            unlock_memory()
            gc.unfreeze()
        witness.terminate()
        out = witness.communicate()[0]
    pauses = np.array([line.split() for line in out.splitlines()], float).reshape(-1, 2)
    late = misses(list(zip(starts, logbook.periods, strict=True)), pauses, 1.0 / rate, limits.deadline)
    excused = sum(bool(each["is_excused"]) for each in late)
    metrics = logbook.summary(Outcome("", 0, ()))
    kept = ("periods", "periods_skipped", "deadline_ms", "deadline_misses", "latency_ms", "wake_ms", "modes")
    return {name: metrics[name] for name in kept} | {
        "rate_hz": rate,
        "seconds": seconds,
        "priority": PRIORITY,
        "memory_locked": locked is None,
        "misses_excused": excused,
        "misses_of_the_runtime": len(late) - excused,
        "pauses_of_the_core": len(pauses),
        "longest_pause_ms": 1e3 * float(pauses[:, 1].max(initial=0.0)),
        "late": late,
        "disturbances": asdict(disturbances),
    }


def misses(
    periods: Sequence[tuple[float, Period]], pauses: np.ndarray, period: float, deadline: float
) -> list[dict[str, Any]]:
    """Late and skipped periods of a flight; a pair is the planned beginning, s, and what happened.

    ``pauses`` holds beginning and length, s, of each pause of the core.
    """
    found: list[dict[str, Any]] = []
    first = periods[0][0] if periods else 0.0
    for begin, own in periods:
        woke = begin + own.wake
        spans = [(begin - k * period, woke, True) for k in range(own.skipped, 0, -1)]
        if own.latency > deadline:
            spans.append((begin, begin + own.latency, False))
        for at, end, is_skipped in spans:
            paused = _paused(pauses, at, end)
            found.append(
                {
                    "at": at - first,
                    "is_skipped": is_skipped,
                    "latency_ms": 1e3 * (end - at),
                    "wake_ms": 1e3 * (woke - at),
                    "paused_ms": 1e3 * paused,
                    "is_excused": end - at - paused <= deadline,
                }
            )
    return found


def _paused(pauses: np.ndarray, begin: float, end: float) -> float:
    """Seconds of a span in which the core stood still."""
    inside = np.minimum(pauses.sum(axis=1), end) - np.maximum(pauses[:, 0], begin)
    return float(np.clip(inside, 0.0, None).sum())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--policy", default="split-s")
    parser.add_argument("--export", type=Path, default=None, help="an export to fly instead of the policy")
    parser.add_argument("--out", type=Path, default=ROOT / "results/deploy/punctual.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.export or Path(made)
        policy = arguments.policy
        if arguments.export is not None:
            policy = Path(open_export(folder).origin.run).name
        else:
            from s5wm.deploy.export import export

            export(f"pretrained/{arguments.policy}", folder, which="best", log=print)
        load = os.getloadavg()
        metrics = flown(folder, arguments.rate, arguments.seconds)
    text = {**provenance(), "load": load, "policy": policy, **metrics}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(text, indent=2) + "\n")
    print(json.dumps(metrics))


if __name__ == "__main__":
    main()
