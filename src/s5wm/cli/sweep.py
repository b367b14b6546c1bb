"""The verb that trains over a grid."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction

from s5wm.cli.common import DONE, Verb, Whole, arg, print_json, table
from s5wm.cli.evaluating import Json
from s5wm.cli.streams import droppable
from s5wm.errors import STOPPED, ConfigError
from s5wm.experiments.sweep import Job, grid, jobs_of, results_of, run_jobs, slurm_script
from s5wm.runs.console import print_line
from s5wm.runs.directory import room_for_results
from s5wm.runs.files import digest

if TYPE_CHECKING:
    from s5wm.experiments.configfile import TrainRequest


@dataclass(frozen=True)
class Sweep(Verb):
    """Train over a grid of settings and seeds, here or on SLURM.

    In local processes, or as the printed job array of a SLURM cluster.  Every combination is a run of its own below
    --out.  Interrupted, the same command goes on: finished trainings are left out, the others go on where they
    stopped.  Exit code 0 where all finished, else that of the first that did not.
    Example: s5wm sweep race/split-s --grid agent.optimiser.learning_rate=1e-3,3e-3 --seeds 3 --jobs 2 --out runs/rates
    """

    task: Annotated[Positional[str | None], arg(metavar="TASK", help="See s5wm list.")] = None
    agent: Annotated[str | None, arg(metavar="NAME", help="See s5wm list; default: s5wm.")] = None
    size: Annotated[str | None, arg(metavar="NAME", help="See s5wm list; default: cpu.")] = None
    config: Annotated[Path | None, arg(metavar="FILE", help="As --config of s5wm train.")] = None
    grid: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="PATH=V1,V2,...", help="Values of one field; may be repeated for the product of several."
        ),
    ] = ()
    seed: Annotated[
        int | None, arg(metavar="INT", help="The first seed; default: that of --config, or 0.")
    ] = None
    seeds: Annotated[int, arg(help="Number of seeds of each combination.")] = 1
    env_steps: Annotated[Whole | None, arg(metavar="INT", help="Budget of each in environment steps.")] = None
    minutes: Annotated[float | None, arg(metavar="FLOAT", help="Budget of each in minutes of training.")] = (
        None
    )
    override: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="PATH=VALUE", help="Override of all trainings; may be repeated."),
    ] = ()
    jobs: Annotated[
        int,
        arg(help="Parallel processes, each on its share of the cores; of --slurm, tasks at once."),
    ] = 1
    out: Annotated[Path, arg(help="Directory of the runs.")] = Path("runs/sweep")
    slurm: Annotated[bool, arg(help="Print a script for sbatch instead of training.")] = False
    hours: Annotated[int, arg(help="Time limit of each job, with --slurm.")] = 24
    json_: Json = False

    def run(self) -> int:
        """Train all, or print the script."""
        jobs = self._jobs()
        if self.slurm:
            room_for_results(self.out)  # SLURM makes no folder, and writes its log there
            print(slurm_script(jobs, self.out, at_once=self.jobs, hours=self.hours), end="")
            return DONE
        codes = run_jobs(jobs, self.out, at_once=self.jobs, log=print_line)
        rows, code = results_of(jobs, codes), _exit_code(jobs, codes)
        # What stopped it may have ended the reader of its output, too: a terminal that closes, Ctrl-C beside tee.
        with nullcontext() if code == DONE else droppable():
            if self.json_:
                print_json({"runs": rows})
            else:
                table([(row["name"], _shown(row)) for row in rows])
        return code

    def _jobs(self) -> list[Job]:
        """Checked one by one before any begins: a wrong value ends the sweep and no training."""
        from s5wm.experiments.configfile import resolve
        from s5wm.runs.codec import encode

        for name in ("seeds", "jobs", "hours"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        chosen, _ = grid(self.grid, [0])[0]  # what is not in the grid need not be valid alone
        first = resolve(self._request(chosen, self.seed), self.config, print_line).seed
        cells = grid(self.grid, range(first, first + self.seeds))
        experiments = [
            resolve(self._request(chosen, seed), self.config, print_line) for chosen, seed in cells
        ]
        jobs = jobs_of(self.out, self._common(), cells)
        return [
            replace(job, experiment=digest(encode(experiment)))
            for job, experiment in zip(jobs, experiments, strict=True)
        ]

    def _request(self, chosen: tuple[str, ...], seed: int | None) -> "TrainRequest":
        """One training, with these values of the grid."""
        from s5wm.experiments.configfile import TrainRequest

        return TrainRequest(
            task=self.task,
            agent=self.agent,
            size=self.size,
            seed=seed,
            env_steps=self.env_steps,
            minutes=self.minutes,
            override=(*self.override, *chosen),
        )

    def _common(self) -> list[str]:
        """Options that all trainings share."""
        words = [] if self.task is None else [self.task]
        options = {
            "agent": self.agent,
            "size": self.size,
            "config": self.config,
            "env-steps": self.env_steps,
            "minutes": self.minutes,
        }
        words += [
            word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))
        ]
        return words + [word for change in self.override for word in ("--override", change)]


def _exit_code(jobs: Sequence[Job], codes: Mapping[str, int]) -> int:
    failed = [code for code in codes.values() if code not in (DONE, STOPPED)]
    if failed:
        return failed[0] if failed[0] > 0 else 1  # a process that a signal ended has a negative one
    return DONE if len(codes) == len(jobs) and STOPPED not in codes.values() else STOPPED


def _shown(row: dict[str, object]) -> str:
    code, success, lap = row["code"], row["success_rate"], row["lap_time_mean"]
    state = {DONE: "", STOPPED: "stopped  ", None: "not begun  "}.get(code, f"exit code {code}  ")  # type: ignore[call-overload]
    rate = "" if not isinstance(success, float) else f"success {success:.0%}"
    return state + rate + (f"  lap {lap:.2f} s" if isinstance(lap, float) else "")
