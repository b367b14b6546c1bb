"""``train --from``: parameters of a run or of a shipped policy, checked against the training that begins with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.errors import ConfigError, RunDirectoryError
from s5wm.experiments.experiment import Experiment, load_experiment
from s5wm.experiments.trained import find, is_run, load_agent
from s5wm.runs.checkpoint import Checkpoints, restore_named
from s5wm.runs.codec import Warn, differences, encode
from s5wm.runs.directory import CONFIG, RunDirectory
from s5wm.runs.files import read_json, whole_folder
from s5wm.runs.policyfile import named_leaves
from s5wm.runs.shapes import Arrays, describe
from s5wm.training.run import abstract_state
from s5wm.training.start import ABOUT, Start, read_start, save_start

LEARNER = "learner."
MOST_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Names:
    """What another training may begin with, by the first parts of names: no optimiser, no data, no counts."""

    parameters: tuple[str, ...]  # in the learner
    policy: Mapping[str, str]  # in a policy: in the learner
    copies: Mapping[str, str]  # parameters: what a fresh learner holds a copy of them as


DREAMER = Names(
    parameters=("params",),
    policy={
        "encoder": "params.world_model.encoder",
        "dynamics": "params.world_model.dynamics",
        "actor": "params.actor",
    },
    copies={
        "params.critic": "slow_critic",
        "params.world_model.encoder": "policy_ema.encoder",
        "params.world_model.dynamics": "policy_ema.dynamics",
        "params.actor": "policy_ema.actor",
    },
)
PPO = Names(
    parameters=("params", "obs_moments", "critic_moments"),  # inputs mean nothing without their statistics
    policy={"actor": "params.actor", "log_std": "params.log_std", "moments": "obs_moments"},
    copies={},
)


def find_start(source: str | Path, experiment: Experiment, warn: Warn) -> Start:
    """Parameters of ``source`` for a training of ``experiment``; nothing compiles.

    Of a run, all parameters of its newest checkpoint; of a shipped policy, what acting needs.  Raises ``ConfigError``
    where the two do not have the same architecture, name by name.
    """
    folder = find(source)
    before = load_experiment(folder / CONFIG, warn=warn)
    if type(before.agent) is not type(experiment.agent):
        raise ConfigError(
            f"--from {source} was trained by {before.name.agent or type(before.agent).__name__}, which is another kind "
            "of agent than this training's; choose its --agent and --size"
        )
    names = DREAMER if isinstance(experiment.agent, DreamerConfig) else PPO
    agent = experiment.build_agent(experiment.build_env())
    learner = named_leaves(jax.eval_shape(agent.init, jr.key(0)))
    expected = {name: leaf for name, leaf in learner.items() if _is_in(name, names.parameters)}
    arrays, about = (_of_run if is_run(folder) else _of_policy)(folder, before, names, warn)
    _check(source, arrays, expected, differences(encode(before.agent), encode(experiment.agent), "agent"))
    fresh = sorted({_group(name) for name in expected.keys() - arrays.keys()})
    for parameter, copy in names.copies.items():
        held = {copy + name.removeprefix(parameter): name for name in arrays if _is_in(name, (parameter,))}
        arrays |= {other: arrays[name] for other, name in held.items() if other in learner}
    return Start(arrays, {"run": str(source), **about, "fresh": fresh})


def group_start(
    group: Sequence[RunDirectory], source: str | None, experiment: Experiment, warn: Warn
) -> Start | None:
    """Parameters for the new ones of runs that train together: those that the others began with, or ``source``'s.

    A group that was killed between its first two configurations is new in part.  Raises ``ConfigError`` where its
    runs began with different parameters.
    """
    begun = [directory for directory in group if directory.exists()]
    if not begun:
        return None if source is None else find_start(source, experiment, warn)
    first = recorded_start(begun[0])
    for directory in begun:
        if (other := recorded_start(directory)) != first:
            raise ConfigError(
                f"{begun[0].path} was begun with {_origin(first)}, and {directory.path} with {_origin(other)}: seeds "
                "train together from the same parameters; go on with each alone, s5wm resume RUN"
            )
    return None if len(begun) == len(group) else read_start(begun[0].start)


def settle_start(directory: RunDirectory, source: str | None, start: Start | None) -> None:
    """Store the parameters in a new run; in an existing run check that they are the same."""
    if not directory.exists():
        if start is not None:
            save_start(directory.start, start)
        else:
            directory.forget_start()
        return
    recorded = recorded_start(directory)
    if source is not None and (recorded is None or recorded.get("run") != source):
        raise ConfigError(
            f"{directory.path} was begun with {_origin(recorded)}, not with --from {source}; leave out --from to go on "
            "with it, or name another directory"
        )


def _origin(recorded: Mapping[str, Any] | None) -> str:
    return "fresh parameters" if recorded is None else f"those of {recorded.get('run')}"


def recorded_start(directory: RunDirectory) -> dict[str, Any] | None:
    """What a run began with; None: fresh parameters."""
    about = whole_folder(directory.start) / ABOUT
    return read_json(about) if about.is_file() else None


def _of_run(folder: Path, before: Experiment, names: Names, warn: Warn) -> tuple[Arrays, dict[str, Any]]:
    checkpoint = Checkpoints(RunDirectory(folder).checkpoints, keep=1).newest(warn)
    if checkpoint is None:
        raise RunDirectoryError(
            f"{folder} has no checkpoint yet: train it until the first one, or begin afresh"
        )
    template = abstract_state(before.build(), before.train, before.seed)
    stored: Arrays = {}
    for part in names.parameters:
        stored |= restore_named(checkpoint, template, f"{LEARNER}{part}.")
    arrays = {name.removeprefix(LEARNER): array for name, array in stored.items()}
    return arrays, {"policy": "latest", "env_steps": read_json(checkpoint / "host.json")["env_steps"]}


def _of_policy(folder: Path, before: Experiment, names: Names, warn: Warn) -> tuple[Arrays, dict[str, Any]]:
    del before
    arrays: Arrays = {}
    agent = load_agent(folder, which="latest", warn=warn)
    for name, leaf in named_leaves(agent.policy).items():
        part = next(part for part in names.policy if _is_in(name, (part,)))
        arrays[names.policy[part] + name.removeprefix(part)] = np.asarray(leaf)
    return arrays, {"policy": "shipped", "env_steps": agent.env_steps}


def _check(source: str | Path, arrays: Arrays, expected: dict[str, Any], other: list[str]) -> None:
    """Raises ``ConfigError`` unless every array that is there has its place."""
    wrong = [
        f"{name} is {describe(array)} there and {describe(expected[name]) if name in expected else 'none'} here"
        for name, array in arrays.items()
        if name not in expected or describe(array) != describe(expected[name])
    ]
    if not wrong:
        return
    fields = f"; the configurations differ in {'; '.join(other[:MOST_SHOWN])}" if other else ""
    raise ConfigError(
        f"--from {source} has another architecture than this training: {len(wrong)} arrays differ, first {wrong[0]}"
        f"{fields}. Choose its --agent and --size, and repeat its overrides"
    )


def _is_in(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def _group(name: str) -> str:
    """``params.world_model.cont`` of ``params.world_model.cont.out.bias``."""
    parts = name.split(".")
    return ".".join(parts[: 3 if parts[1:2] == ["world_model"] else 2])
