"""A grid of trainings: what it consists of, running it in local processes, and the script that a cluster runs.

Each training is the ``s5wm train`` of its own directory, so that an interrupted one goes on where it stopped and a
finished one is known by the exit code kept in ``sweep.json``.
"""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s5wm.errors import STOPPED, ConfigError, WriteError
from s5wm.runs.directory import room_for_results
from s5wm.runs.files import read_json, write_json
from s5wm.training.stop import StopRequest

RECORD = "sweep.json"
LONGEST_NAME = 100
PAUSE = 0.2  # s between two looks at the processes
TERMINATED = (128 + signal.SIGTERM, -signal.SIGTERM)
"""Codes of a process that SIGTERM ended before it had anything to save, or after it had saved all."""

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a sweep."""

    name: str
    run: Path
    arguments: tuple[str, ...]  # of ``s5wm``
    experiment: str = ""  # SHA-256 of what the arguments mean: files that they name may change

    @property
    def command(self) -> list[str]:
        """For a process of this Python."""
        return [sys.executable, "-m", "s5wm", *self.arguments]


def grid(axes: Sequence[str], seeds: Sequence[int]) -> list[tuple[tuple[str, ...], int]]:
    """Every combination of ``PATH=V1,V2,...`` axes with every seed, as ``PATH=VALUE`` texts and the seed."""
    columns: list[list[str]] = []
    for axis in axes:
        path, equals, values = axis.partition("=")
        if not equals or not path or not values:
            raise ConfigError(
                f"--grid {axis!r} is not of the form PATH=V1,V2,..., e.g. agent.replay.batch=16,32"
            )
        columns.append([f"{path}={value}" for value in split_values(values)])
    return [(chosen, seed) for chosen in itertools.product(*columns) for seed in seeds]


def split_values(text: str) -> list[str]:
    """At commas outside of brackets and quotes: ``[1,2],[3,4]`` are two values."""
    values, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quoted:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]


def jobs_of(out: Path, common: Sequence[str], cells: Sequence[tuple[tuple[str, ...], int]]) -> list[Job]:
    """The trainings, each in a directory below ``out`` named after its values; raises where two would share one."""
    jobs: list[Job] = []
    for chosen, seed in cells:
        name = _name(chosen, seed)
        options = [word for text in chosen for word in ("--override", text)]
        arguments = ("train", *common, *options, "--seed", str(seed), "--run", str(out / name))
        jobs.append(Job(name=name, run=out / name, arguments=arguments))
    names = [job.name for job in jobs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{repeated[0]} is in the sweep twice; name each value once")
    return jobs


def _name(chosen: Sequence[str], seed: int) -> str:
    """``batch=16_units=64_s0``: the last part of each path, with what a file name cannot hold left out."""
    parts = [f"{text.partition('=')[0].split('.')[-1]}={text.partition('=')[2]}" for text in chosen]
    words = re.sub(r"[^A-Za-z0-9_.=+-]+", "-", "_".join([*parts, f"s{seed}"]))
    if len(words) > LONGEST_NAME:
        raise ConfigError(
            f"{words[:40]}... would be the name of a directory of {len(words)} letters; shorten the grid"
        )
    return words


class Record:
    """``sweep.json``: the exit code of every training that has ended, with the arguments that it was given."""

    def __init__(self, out: Path) -> None:
        self.path = out / RECORD
        self._is_saved = True
        self.ended: dict[str, Any] = read_json(self.path) if self.path.is_file() else {}

    def has_finished(self, job: Job) -> bool:
        """Whether it ended well before, with these arguments of the same meaning, and is still there."""
        entry = self.ended.get(job.name)
        return (
            isinstance(entry, Mapping)
            and entry.get("code") == 0
            and entry.get("arguments") == list(job.arguments)
            and entry.get("experiment", job.experiment) == job.experiment  # records of before have none
            and job.run.is_dir()
        )

    def note(self, job: Job, code: int, log: Log) -> None:
        """Record the exit code; where that cannot be written, ``log`` gets a line, and ``save`` tries again."""
        self.ended[job.name] = {
            "code": code,
            "arguments": list(job.arguments),
            "experiment": job.experiment,
        }
        self._is_saved = False
        try:
            self.save()
        except WriteError as error:
            log(f"{error}; the trainings go on")

    def save(self) -> None:
        """Write what the file lacks; raises ``WriteError``."""
        if not self._is_saved:
            write_json(self.path, self.ended)
            self._is_saved = True


class Pool:
    """Processes of trainings, each with its share of the cores."""

    def __init__(self, out: Path, at_once: int) -> None:
        self.out = out
        self._cores = shares(sorted(os.sched_getaffinity(0)), at_once)
        self.running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
        self._signalled: set[int] = set()

    @property
    def free(self) -> list[int]:
        """Number of free slots."""
        return [place for place in range(len(self._cores)) if place not in self.running]

    def begin(self, place: int, job: Job) -> None:
        """Start it; its output goes to a log next to its directory."""
        with self.log(job).open("ab") as log:
            # A session of its own: Ctrl-C reaches the sweep alone, which passes it on once.
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        with suppress(ProcessLookupError):  # it has ended already: its exit code shows why
            os.sched_setaffinity(process.pid, self._cores[place])  # before it has counted the cores
        self.running[place] = (job, process)

    def ended(self) -> Iterator[tuple[Job, int]]:
        """Finished jobs with their exit codes; of those that ``stop`` ended at once, that of a stopped training."""
        for place, (job, process) in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[place]
                yield job, STOPPED if process.pid in self._signalled and code in TERMINATED else code

    def stop(self) -> None:
        """Signal each process once, to save and exit; a second signal would end it without saving."""
        for _, process in self.running.values():
            if process.pid not in self._signalled and process.poll() is None:
                process.terminate()
                self._signalled.add(process.pid)

    def log(self, job: Job) -> Path:
        """Log file of a training."""
        return self.out / f"{job.name}.log"

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all trainings when the sweep ends."""
        self.stop()
        for running in self.running.values():
            running[1].wait()


def run_jobs(jobs: Sequence[Job], out: Path, *, at_once: int, log: Log) -> dict[str, int]:
    """Exit codes by name; at most ``at_once`` processes, finished ones left out.

    On SIGINT, SIGTERM, SIGHUP or SIGUSR1 running trainings save and stop, and the rest is not begun.  A record that
    cannot be written stops none: raises ``WriteError`` at the end, if it still cannot.
    """
    room_for_results(out)
    record = Record(out)
    codes = {job.name: 0 for job in jobs if record.has_finished(job)}
    for name in codes:
        log(f"{name}: finished before")
    waiting = [job for job in jobs if job.name not in codes]
    with StopRequest(log) as stop, Pool(out, at_once) as pool:
        while pool.running or (waiting and not stop.requested):
            for place in pool.free if not stop.requested else []:
                if waiting:
                    pool.begin(place, waiting[0])
                    log(f"{waiting.pop(0).name}: begun, {len(waiting)} wait")
            if stop.requested:
                pool.stop()
            for job, code in pool.ended():
                codes[job.name] = code
                record.note(job, code, log)
                log(f"{job.name}: {_how_it_ended(code, pool.log(job))}")
            time.sleep(PAUSE)
    record.save()
    return codes


def _how_it_ended(code: int, log: Path) -> str:
    return {0: "finished", STOPPED: "stopped"}.get(code, f"exit code {code}, see {log}")


def shares(cores: Sequence[int], at_once: int) -> list[list[int]]:
    """Cores of each process: disjoint where there are enough of them."""
    if len(cores) < at_once:
        return [[cores[slot % len(cores)]] for slot in range(at_once)]
    return [list(cores[slot::at_once]) for slot in range(at_once)]


def slurm_script(jobs: Sequence[Job], out: Path, *, at_once: int, hours: int) -> str:
    """A job array for ``sbatch``: task N is the N-th training, which goes on where it stopped when it is requeued."""
    lines = [shlex.join(["s5wm", *job.arguments]) for job in jobs]
    commands = "\n".join(f"  {shlex.quote(line)}" for line in lines)
    return f"""#!/bin/bash
#SBATCH --job-name=s5wm-sweep
#SBATCH --array=0-{len(jobs) - 1}%{at_once}
#SBATCH --output={shlex.quote(f"{out}/slurm-%A_%a.log")}
#SBATCH --time={hours}:00:00
#SBATCH --cpus-per-task=2
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# 120 s before its time is over a training saves and stops; submitted again, the array goes on.
commands=(
{commands}
)
eval "exec ${{commands[$SLURM_ARRAY_TASK_ID]}}"
"""


def results_of(jobs: Sequence[Job], codes: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row for each training: its name, exit code, and the metrics of its evaluation where it has one."""
    rows: list[dict[str, Any]] = []
    for job in jobs:
        file = job.run / "eval.json"
        metrics = read_json(file) if file.is_file() else {}
        shown = {name: metrics.get(name) for name in ("success_rate", "lap_time_mean", "return_nominal")}
        rows.append({"name": job.name, "run": str(job.run), "code": codes.get(job.name), **shown})
    return rows
