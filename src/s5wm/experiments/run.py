"""From an experiment to a trained run directory."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import jax

from s5wm.distributed.memory import check_memory, replay_line
from s5wm.distributed.placement import Placement
from s5wm.distributed.processes import from_main_process, is_main_process, shutdown
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.envs.host import HostEnv
from s5wm.envs.task import AbstractTask
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.experiments.experiment import Experiment, check_storable, load_experiment, save_experiment
from s5wm.experiments.start import group_start, recorded_start, settle_start
from s5wm.experiments.trackers import check_trackers, open_trackers
from s5wm.runs.checkpoint import about
from s5wm.runs.codec import Warn, differences, encode
from s5wm.runs.console import print_line
from s5wm.runs.directory import CONFIG, ORIGIN, RunDirectory, lives
from s5wm.runs.files import write_json
from s5wm.runs.log import JsonLines, Lines, Row, Sink, TensorBoard, read_rows
from s5wm.runs.panel import Panel
from s5wm.runs.provenance import provenance, versions
from s5wm.training.fit import SeedRun, fit, load
from s5wm.training.run import Program, Trainer, abstract_state
from s5wm.training.start import Start

Hook = Callable[[Path], None]


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write_row(self, row: Row) -> None:
        """To each."""
        for sink in self._sinks:
            sink.write_row(row)

    def write_line(self, text: str) -> None:
        """To each."""
        for sink in self._sinks:
            sink.write_line(text)

    def close(self) -> None:
        """Each."""
        for sink in self._sinks:
            sink.close()


def terminal(title: str, task: AbstractTask) -> Sink:
    """The live panel on a terminal, plain lines elsewhere, in the words of the task."""
    if sys.stderr.isatty() and find_spec("rich"):
        return Panel(title, task.columns, task.reported_metrics)
    return Lines(task.columns)


@dataclass(frozen=True, kw_only=True)
class How:
    """Options of a training that are no part of the experiment."""

    devices: int = 1  # may be another number than before
    source: str | None = None  # run or shipped policy whose parameters a new run begins with
    trackers: tuple[str, ...] = ()  # besides metrics.jsonl and TensorBoard; a run keeps those that it had
    on_evaluation: Hook | None = None  # given the run's directory
    may_exit: bool = (
        False  # a signal may end the process while there is nothing to save, as that of a command
    )


def run_experiment(experiment: Experiment, path: Path, how: How = How()) -> bool:
    """Train in ``path``, from nothing or from where it stopped; False if stopped on request before the end."""
    if not is_main_process():
        return _follow(path)
    return _run({path: experiment}, how)


MOST_SEEDS = 1000


def run_seeds(
    experiment: Experiment,
    path: Path,
    *,
    count: int,
    how: How = How(),
) -> tuple[bool, list[Path]]:
    """Train ``count`` seeds from the experiment's on in one program; each is a run of its own, ``path/seed-N``.

    Gives whether all are finished, and the runs' directories.  Raises ``ConfigError`` where there are too few or too
    many, where ``path`` is itself a run, and where only some of them have been begun.
    """
    first, last = experiment.seed, experiment.seed + count - 1
    if not 2 <= count <= MOST_SEEDS:
        raise ConfigError(
            f"--seeds is {count}; give 2 to {MOST_SEEDS}, or leave it out and choose one with --seed"
        )
    if last >= 2**32:
        raise ConfigError(f"--seed {first} and --seeds {count} end at {last}; seeds must lie in [0, 2^32)")
    if jax.process_count() > 1:
        raise ConfigError("--seeds trains in one process; leave out --coordinator")
    if RunDirectory(path).exists():
        raise ConfigError(f"{path} is the run of a single seed; name another directory for {count} seeds")
    runs = {path / f"seed-{seed}": replace(experiment, seed=seed) for seed in range(first, last + 1)}
    return _run(runs, how), list(runs)


def _run(runs: Mapping[Path, Experiment], how: How) -> bool:
    """Experiments that differ in nothing but their seeds."""
    check_trackers(how.trackers)
    for path in runs:
        RunDirectory(path).check()
    experiment = next(iter(runs.values()))
    check_storable(experiment)
    start = group_start([RunDirectory(path) for path in runs], how.source, experiment, to_stderr)
    placement = Placement.over(how.devices, num_envs=experiment.train.num_envs)
    program = experiment.build()
    _check_hosted(program, devices=how.devices, seeds=len(runs))
    shapes = abstract_state(program, experiment.train, experiment.seed)
    check_memory(shapes, placement.shardings(shapes), seeds=len(runs))
    replay = replay_line(shapes, placement.shardings(shapes), seeds=len(runs))
    with ExitStack() as stack:
        directories = {path: stack.enter_context(RunDirectory(path)) for path in runs}
        for directory in directories.values():
            settle_start(directory, how.source, start)
        _settle_configs([(directories[path], one) for path, one in runs.items()])
        from_main_process(0.0)  # from here on the others may read
        trainers = {
            path: Trainer(program, one.train, directories[path], one.seed, placement)
            for path, one in runs.items()
        }
        screen = terminal(str(next(iter(runs))), experiment.task) if len(runs) == 1 else Lines()
        stack.callback(screen.close)
        if replay is not None:
            screen.write_line(replay)
        if start is not None:
            screen.write_line(_what_begins(start))
        load(
            list(trainers.values()),
            screen.write_line,
            lambda newest: _check_drift(newest, runs[newest.parents[1]], screen.write_line),
        )
        group: list[SeedRun] = []
        for path, trainer in trainers.items():
            group.append(_member(runs[path], trainer, screen, how, len(runs)))
            stack.callback(group[-1].sink.close)  # however the training ends
        finished = fit(group, screen.write_line, may_exit=how.may_exit)
    shutdown()
    return finished


def _check_hosted(program: Program, *, devices: int, seeds: int) -> None:
    """Raises ``ConfigError`` for what environments outside the program cannot do."""
    if not isinstance(program.env, HostEnv) or (devices == 1 and seeds == 1 and jax.process_count() == 1):
        return
    raise ConfigError(
        "this environment is stepped by the host, for one seed on one device: leave out --seeds, --devices and "
        "--coordinator, and train other seeds one by one with --seed (s5wm sweep does)"
    )


def _what_begins(start: Start) -> str:
    about = start.about
    trained = "" if about["env_steps"] is None else f", trained for {about['env_steps']:,} environment steps"
    fresh = f"; fresh: {', '.join(about['fresh'])}" if about["fresh"] else ""
    return f"begins with the parameters of {about['run']} ({about['policy']} policy{trained}){fresh}"


def _member(experiment: Experiment, trainer: Trainer, screen: Sink, how: How, of: int) -> SeedRun:
    directory, on_evaluation = trainer.directory, how.on_evaluation
    files = _files(directory, trainer.host.env_steps)
    console = screen if of == 1 else Lines(experiment.task.columns, prefix=f"seed {trainer.seed}: ")
    if isinstance(console, Panel):
        console.recall(read_rows(directory.metrics))  # which JsonLines has cut at the checkpoint
    trackers = open_trackers(how.trackers, directory, experiment, console.write_line)
    sinks = Sinks([*files, *trackers, console])
    return SeedRun(trainer, sinks, lambda: on_evaluation(directory.path) if on_evaluation else None)


def _follow(path: Path) -> bool:
    """Another process's part: the same chunks, of the leader's configuration; nothing is written, and nothing said."""
    from_main_process(0.0)
    directory = RunDirectory(path)
    if not directory.exists():
        raise RunDirectoryError(
            f"{path} is not to be seen from process {jax.process_index()}; use a directory that all processes share"
        )
    experiment = load_experiment(directory.config, warn=lambda _: None)
    placement = Placement.over(1, num_envs=experiment.train.num_envs)
    program = experiment.build()
    shapes = abstract_state(program, experiment.train, experiment.seed)
    check_memory(shapes, placement.shardings(shapes))
    trainer = Trainer(program, experiment.train, directory, experiment.seed, placement)
    nobody = Sinks([])
    load([trainer], nobody.write_line)
    finished = fit([SeedRun(trainer, nobody, lambda: None)], nobody.write_line)
    shutdown()
    return finished


def _files(directory: RunDirectory, env_steps: int) -> list[Sink]:
    sinks: list[Sink] = [JsonLines(directory.metrics, env_steps=env_steps)]
    if find_spec("tensorboardX"):
        sinks.append(TensorBoard(directory.path / "tensorboard", env_steps=env_steps))
    return sinks


def _settle_configs(runs: Sequence[tuple[RunDirectory, Experiment]]) -> None:
    """Write configurations, or hold them against those that the runs began with; only the budget may differ."""
    begun = [directory.path for directory, _ in runs if directory.metrics.is_file()]
    fresh = [directory.path for directory, _ in runs if not directory.metrics.is_file()]
    if begun and fresh:
        raise ConfigError(
            f"{fresh[0]} is new, and {begun[0]} has been begun: seeds train together from the beginning; name "
            "another directory, or train the new ones alone with --seed"
        )
    for directory, experiment in runs:
        if directory.exists():
            _check_same(
                directory.config, experiment, f"{directory.path} was begun with another configuration"
            )
    origin = {"cpus": len(os.sched_getaffinity(0)), "seeds_together": len(runs), **provenance()}
    for directory, experiment in runs:
        start = recorded_start(directory)
        save_experiment(directory.config, experiment, start=start)
        begins = {} if start is None else {"from": start}
        is_own = isinstance(experiment.task, FactoryConfig)
        life = origin | begins | ({"folder": os.getcwd()} if is_own else {})
        write_json(directory.path / ORIGIN, {"lives": [*lives(directory.path), life]})


def _check_drift(checkpoint: Path, experiment: Experiment, warn: Warn) -> None:
    """Raises where ``config.json`` of the run is no longer that of its checkpoint; warns of other versions."""
    if (checkpoint / CONFIG).is_file():
        _check_same(checkpoint / CONFIG, experiment, f"{checkpoint} was saved with another configuration")
    now, then = versions(), about(checkpoint)["versions"]
    if changed := [
        f"{name} {was}, now {now[name]}" for name, was in then.items() if name in now and was != now[name]
    ]:
        warn(f"saved with {', '.join(changed)}: going on may differ in the last digits")


def _check_same(path: Path, experiment: Experiment, what: str) -> None:
    before = load_experiment(path, warn=lambda _: None)
    budget = {"env_steps": experiment.train.env_steps, "minutes": experiment.train.minutes}
    same = replace(before, train=replace(before.train, **budget))
    if lines := differences(encode(same), encode(experiment)):
        raise ConfigError(
            f"{what} ({'; '.join(lines)}); resume it without options, or name another directory"
        )


def to_stderr(text: str) -> None:
    """One line for a person."""
    print_line(f"s5wm: {text}")
