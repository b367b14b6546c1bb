"""Verbs that make and judge policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from s5wm.api import fresh_path
from s5wm.cli.common import DONE, Verb, Whole, arg, print_json
from s5wm.cli.drawing import draw_training
from s5wm.cli.evaluating import Json, report
from s5wm.errors import STOPPED, ConfigError
from s5wm.runs.console import print_line
from s5wm.runs.directory import CONFIG

if TYPE_CHECKING:
    from s5wm.experiments.experiment import Experiment
    from s5wm.experiments.run import How

Log = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(
        name="log",
        metavar="TRACKER",
        help="Log to wandb or trackio too (installed with s5wm[wandb], s5wm[trackio]); may be repeated.  A resumed run "
        "goes on with those that it had.",
    ),
]


@dataclass(frozen=True)
class Hardware:
    """Devices and processes that share a training."""

    devices: Annotated[
        int,
        arg(help="Devices that share the environments and the batches; may change when a run is resumed."),
    ] = 1
    coordinator: Annotated[
        str | None,
        arg(
            metavar="HOST:PORT",
            help="Train in several processes, all started with this command: the address of process 0, or auto "
            "under a scheduler (SLURM, Open MPI).  All devices that they are given take part.",
        ),
    ] = None
    processes: Annotated[
        int | None, arg(metavar="INT", help="Number of processes; with --coordinator HOST:PORT.")
    ] = None
    process: Annotated[
        int | None, arg(metavar="INT", help="Index of this process, from 0; with --coordinator HOST:PORT.")
    ] = None

    def join(self, path: Path | None) -> None:
        """Become one of several processes where that is asked for; before anything wakes the devices."""
        from s5wm.distributed.processes import join

        if self.coordinator is not None:
            if path is None:
                raise ConfigError("--coordinator needs --run: all processes train in the same directory")
            print_line(f"waiting for the other processes at {self.coordinator} ...")
            join(self.coordinator, self.processes, self.process)
        elif self.processes is not None or self.process is not None:
            raise ConfigError(
                "--processes and --process need --coordinator HOST:PORT, the address of process 0"
            )


@dataclass(frozen=True)
class Train(Verb):
    """Train an agent, or go on with an existing --run.

    Example: s5wm train race/split-s --agent s5wm --size cpu --run runs/first
    """

    task: Annotated[
        Positional[str | None],
        arg(
            metavar="SPEC",
            help="A task of s5wm list, gymnasium:ID, or package.module:function that returns an environment; left "
            "out where --config names it or --run exists.",
        ),
    ] = None
    agent: Annotated[str | None, arg(metavar="NAME", help="See s5wm list; default: s5wm.")] = None
    size: Annotated[str | None, arg(metavar="NAME", help="See s5wm list; default: cpu.")] = None
    config: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="The config.json of a run, or JSON or YAML with task, agent, size, seed, env_steps, minutes and "
            "changed fields under override.  What the command line says counts more.",
        ),
    ] = None
    run_dir: Annotated[
        Path | None, arg(metavar="PATH", name="run", help="Run directory; default: a new one in runs/.")
    ] = None
    seed: Annotated[int | None, arg(metavar="INT", help="Random seed; default: 0.")] = None
    seeds: Annotated[
        int | None,
        arg(
            metavar="INT",
            help="Number of seeds, from --seed on, trained in one program.  Each is a run of its own, RUN/seed-N.",
        ),
    ] = None
    env_steps: Annotated[
        Whole | None,
        arg(metavar="INT", help="Budget in environment steps, in whole iterations; default: the preset's."),
    ] = None
    minutes: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help="Budget in minutes, compiling and evaluating included; alone, it replaces the steps.",
        ),
    ] = None
    from_: Annotated[
        str | None,
        arg(
            name="from",
            metavar="RUN",
            help="Begin a new run with the parameters of this one (newest checkpoint) or of pretrained/NAME, of the "
            "same agent and size.  Optimiser, replay and schedules are fresh.",
        ),
    ] = None
    env_arg: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="NAME=VALUE", help="Argument of an environment of your own; may be repeated."),
    ] = ()
    privileged: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="KEY",
            help="A key of a Dict observation that critics and decoders learn from and the policy is never shown; may "
            "be repeated.  The default agent becomes s5wm-p.",
        ),
    ] = ()
    override: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="PATH=VALUE", help="Change any field, e.g. agent.world_model.units=64; may be repeated."),
    ] = ()
    log: Log = ()
    json_: Json = False
    hardware: OmitArgPrefixes[Hardware] = Hardware()

    def run(self) -> int:
        """Train and evaluate."""
        from s5wm.experiments.configfile import TrainRequest, resolve
        from s5wm.experiments.run import How, run_experiment

        if self.seeds is not None and self.hardware != Hardware():
            raise ConfigError(
                f"--seeds {self.seeds} trains on one device and in one process: leave out --devices and --coordinator"
            )
        self.hardware.join(self.run_dir)
        request = TrainRequest(
            task=self.task,
            agent=self.agent,
            size=self.size,
            seed=self.seed,
            env_steps=self.env_steps,
            minutes=self.minutes,
            override=self.override,
            env_arg=self.env_arg,
            privileged=self.privileged,
        )
        experiment = resolve(request, self._config(), print_line)
        name = experiment.name
        path = self.run_dir or fresh_path(name.task, name.agent, name.size, experiment.seed)
        if self.seeds is not None:
            return self._run_seeds(experiment, path, self.seeds)
        how = How(devices=self.hardware.devices, source=self.from_, trackers=self.log, may_exit=True)
        return _finish(path, run_experiment(experiment, path, how), self.json_)

    def _config(self) -> Path | None:
        """The file that describes the experiment; an existing run knows its own."""
        if self.task is None and self.config is None and self.run_dir is not None:
            own = self.run_dir / CONFIG
            return own if own.is_file() else None
        return self.config

    def _run_seeds(self, experiment: "Experiment", path: Path, count: int) -> int:
        from s5wm.experiments.policies import evaluate_training
        from s5wm.experiments.run import How, run_seeds

        how = How(source=self.from_, trackers=self.log, may_exit=True)
        finished, paths = run_seeds(experiment, path, count=count, how=how)
        if not finished:
            print_line(f"stopped; the same command with --run {path} goes on")
            return STOPPED
        metrics = [evaluate_training(each) | {"run": str(each)} for each in paths]
        for each in paths:
            draw_training(each)
        if self.json_:
            print_json({"runs": metrics})
        else:
            for each in metrics:
                print(f"{each['run']}: {each['headline']}")
        return DONE


@dataclass(frozen=True)
class Resume(Verb):
    """Go on with a run exactly where it stopped.

    It keeps the budget that it has; s5wm train --run RUN --minutes 12 (or --env-steps) gives it more.
    Example: s5wm resume runs/first
    """

    run_dir: Annotated[Positional[Path], arg(metavar="RUN", help="A run directory.")]
    log: Log = ()
    json_: Json = False
    hardware: OmitArgPrefixes[Hardware] = Hardware()

    @classmethod
    def check_options(cls, options: Sequence[str]) -> None:
        """Raises ``ConfigError`` for another budget, which only train takes."""
        named = [word for word in options if word.split("=")[0] in ("--minutes", "--env-steps")]
        if named:
            raise ConfigError(
                f"resume keeps the budget of its run and takes no {named[0]}; to give it more: s5wm train --run RUN "
                "--minutes 12 (or --env-steps), counted from the beginning of the run"
            )

    def run(self) -> int:
        """Train and evaluate."""
        from s5wm.experiments.run import How
        from s5wm.experiments.trained import find

        find(self.run_dir)  # a name that is wrong waits for nobody
        self.hardware.join(self.run_dir)
        how = How(devices=self.hardware.devices, trackers=self.log, may_exit=True)
        return _finish(self.run_dir, _resume(self.run_dir, how), self.json_)


def _resume(path: Path, how: "How") -> bool:
    from s5wm.experiments.experiment import load_runnable
    from s5wm.experiments.run import run_experiment
    from s5wm.experiments.trained import find

    folder = find(path)
    return run_experiment(load_runnable(folder, warn=print_line), folder, how)


def _finish(path: Path, finished: bool, as_json: bool) -> int:
    from s5wm.distributed.processes import is_main_process
    from s5wm.experiments.policies import evaluate_training

    if not is_main_process():
        return DONE if finished else STOPPED
    if not finished:
        print_line(f"stopped; go on with: s5wm resume {path}")
        return STOPPED

    report(evaluate_training(path) | {"run": str(path)}, as_json)
    draw_training(path)
    return DONE
