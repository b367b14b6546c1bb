"""From an experiment to a finished run directory, and from a run to its evaluation."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.random as jr

from s5wm.acting import TrainedAgent, Which, find, is_run, load_agent, trained_steps
from s5wm.codec import Warn, differences, encode
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.evaluation import evaluator
from s5wm.experiment import Experiment, load_experiment, save_experiment
from s5wm.provenance import provenance, versions
from s5wm.train.checkpoint import about
from s5wm.train.directory import CONFIG, RunDirectory
from s5wm.train.files import write_json, write_manifest
from s5wm.train.log import JsonLines, Lines, Row, Sink, TensorBoard
from s5wm.train.memory import check_memory, replay_line
from s5wm.train.panel import Panel
from s5wm.train.placement import Placement
from s5wm.train.policyfile import save_policy
from s5wm.train.processes import from_leader, leads, part
from s5wm.train.run import Trainer, abstract_state

ORIGIN = "origin.json"
"""Machine, cores, versions and commit with which a run last began or went on."""

FINAL_EPISODES = 100
FINAL_SEED = 12345

Hook = Callable[[Path], None]


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def row(self, row: Row) -> None:
        """To each."""
        for sink in self._sinks:
            sink.row(row)

    def say(self, text: str) -> None:
        """To each."""
        for sink in self._sinks:
            sink.say(text)

    def close(self) -> None:
        """Each."""
        for sink in self._sinks:
            sink.close()


def terminal(title: str) -> Sink:
    """The live panel on a terminal, plain lines elsewhere."""
    return Panel(title) if sys.stderr.isatty() and find_spec("rich") else Lines()


def run_experiment(
    experiment: Experiment, path: Path, *, devices: int = 1, on_evaluation: Hook | None = None
) -> bool:
    """Train in ``path``, from nothing or from where it stopped; False if stopped on request before the end.

    Over ``devices`` devices, which may be another number than before.
    """
    if not leads():
        return _follow(path)
    RunDirectory(path).check()
    placement = Placement.over(devices, num_envs=experiment.train.num_envs)
    program = experiment.build()
    shapes = abstract_state(program, experiment.train, experiment.seed)
    check_memory(shapes, placement.shardings(shapes))
    replay = replay_line(shapes, placement.shardings(shapes))
    with RunDirectory(path) as directory:
        _settle_config(directory, experiment)
        from_leader(0.0)  # from here on the others may read
        trainer = Trainer(program, experiment.train, directory, experiment.seed, placement)
        screen = terminal(str(path))
        try:
            if replay is not None:
                screen.say(replay)
            trainer.load(screen.say, lambda newest: _check_drift(newest, experiment, screen.say))
            sinks = Sinks([*_files(directory, trainer.host.env_steps), screen])
            finished = trainer.fit(sinks, lambda: on_evaluation(path) if on_evaluation else None)
            sinks.close()
        finally:
            screen.close()
        part()
        return finished


def _follow(path: Path) -> bool:
    """Another process's part: the same chunks, of the leader's configuration; nothing is written, and nothing said."""
    from_leader(0.0)
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
    trainer.load(nobody.say)
    finished = trainer.fit(nobody, lambda: None)
    part()
    return finished


def _files(directory: RunDirectory, env_steps: int) -> list[Sink]:
    sinks: list[Sink] = [JsonLines(directory.metrics, env_steps=env_steps)]
    if find_spec("tensorboardX"):
        sinks.append(TensorBoard(directory.path / "tensorboard", env_steps=env_steps))
    return sinks


def _settle_config(directory: RunDirectory, experiment: Experiment) -> None:
    """Write the configuration, or hold it against the one that the run began with; only the budget may differ."""
    if directory.exists():
        _check_same(directory.config, experiment, f"{directory.path} was begun with another configuration")
    save_experiment(directory.config, experiment)
    write_json(directory.path / ORIGIN, {"cpus": len(os.sched_getaffinity(0)), **provenance()})


def _check_drift(checkpoint: Path, experiment: Experiment, say: Warn) -> None:
    """Raises where ``config.json`` of the run is no longer that of its checkpoint; tells of other versions."""
    if (checkpoint / CONFIG).is_file():
        _check_same(checkpoint / CONFIG, experiment, f"{checkpoint} was saved with another configuration")
    now, then = versions(), about(checkpoint)["versions"]
    if changed := [
        f"{name} {was}, now {now.get(name)}" for name, was in then.items() if was != now.get(name)
    ]:
        say(f"saved with {', '.join(changed)}: going on may differ in the last digits")


def _check_same(path: Path, experiment: Experiment, what: str) -> None:
    before = load_experiment(path, warn=lambda _: None)
    budget = {"env_steps": experiment.train.env_steps, "minutes": experiment.train.minutes}
    same = replace(before, train=replace(before.train, **budget))
    if lines := differences(encode(same), encode(experiment)):
        raise ConfigError(
            f"{what} ({'; '.join(lines)}); resume it without options, or name another directory"
        )


def evaluate_run(
    run: str | Path, *, episodes: int = FINAL_EPISODES, seed: int = FINAL_SEED, which: Which = "best"
) -> dict[str, Any]:
    """Fly the evaluation protocol; a run directory gets ``eval.json`` and ``flights.npz``."""
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes}; it must be at least 1")
    folder = find(run)
    agent = load_agent(folder, which=which, say=to_stderr)
    judged = evaluator(agent.experiment.task, episodes)(agent.policy, jr.key(seed))
    figures = judged.figures | {
        "policy": agent.source.name,
        "env_steps": trained_steps(agent.source),
        "seed": seed,
        **provenance(),
        "config": encode(agent.experiment),
    }
    if is_run(folder):
        write_json(folder / "eval.json", figures)
        judged.save_flights(RunDirectory(folder).flights)
    return figures


def ship(
    run: str | Path, folder: Path, *, episodes: int = FINAL_EPISODES, which: Which = "best"
) -> dict[str, Any]:
    """Write the policy of a run to ``folder`` as it is shipped: arrays and JSON, evaluated afresh."""
    agent = load_agent(run, which=which, say=to_stderr)
    figures = evaluate_run(run, episodes=episodes, which=which)
    write_policy(agent, figures, folder)
    return figures


def write_policy(agent: TrainedAgent, figures: dict[str, Any], folder: Path) -> None:
    """``policy.npz``, ``config.json``, ``eval.json`` and their checksums, replacing what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_policy(folder / "policy.npz", agent.policy)
    save_experiment(folder / CONFIG, agent.experiment)
    write_json(folder / "eval.json", figures)
    write_manifest(folder)


def to_stderr(text: str) -> None:
    """One line for a person."""
    print(f"s5wm: {text}", file=sys.stderr)
