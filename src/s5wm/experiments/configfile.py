"""Options of the command line and of a file (``train --config``), made into an experiment.

A file is the ``config.json`` of a run, which is a whole experiment, or JSON or YAML of the names and budgets that the
command line takes, with changed fields under ``override``::

    task: race/split-s
    agent: s5wm
    seed: 3
    env_steps: 2000000
    override:
      agent.replay.batch: 32
      task:
        reward: {crash: 4}

What the command line says counts more than what the file says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from s5wm.errors import ConfigError
from s5wm.experiments.configure import configure
from s5wm.experiments.experiment import Experiment, load_experiment
from s5wm.experiments.presets import with_budget
from s5wm.runs.codec import TAG, Warn, override, suggest
from s5wm.runs.datafile import read_data

WHOLE = "experiment"
"""The key that only the configuration of a run has, and no file of options."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Options of a training; None where not given."""

    task: str | None = None
    agent: str | None = None
    size: str | None = None
    seed: int | None = None
    env_steps: int | None = None
    minutes: float | None = None
    override: Sequence[str] = ()  # PATH=VALUE
    env_arg: Sequence[str] = ()  # NAME=VALUE
    privileged: Sequence[str] = ()  # keys of a Dict observation


def resolve(request: TrainRequest, file: Path | None, warn: Warn) -> Experiment:
    """The experiment; raises ``ConfigError`` that names the file, the field and what is known."""
    if file is None:
        return _from_names(request)
    try:
        data = read_data(file)
        written = None if WHOLE in data else read_request(data)
    except ConfigError as error:
        raise ConfigError(f"--config {file}: {error}") from error
    if written is None:
        return _from_whole(load_experiment(file, warn=warn), request, file)
    return _from_names(_merged(written, request))


def read_request(data: Mapping[str, Any]) -> TrainRequest:
    """A file of names, budgets and overrides."""
    known = [field.name for field in fields(TrainRequest)]
    for name in data:
        if name not in known:
            hint = "; fields of the experiment belong under override"
            raise ConfigError(f"unknown field {name}{hint}" + suggest(str(name), known))
    values: dict[str, Any] = {
        name: _whole(value) if name in ("seed", "env_steps") else value for name, value in data.items()
    }
    _check_types(values)
    values["override"] = tuple(flattened(data.get("override") or {}))
    values["env_arg"] = tuple(flattened(data.get("env_arg") or {}))
    values["privileged"] = tuple(data.get("privileged") or ())
    return TrainRequest(**values)


def flattened(changes: Any, path: str = "") -> list[str]:
    """``PATH=VALUE`` of nested or dotted mappings, or of a list of such texts; a ``type`` before its fields."""
    if isinstance(changes, list | tuple) and not path:
        if wrong := [item for item in changes if not isinstance(item, str)]:
            raise ConfigError(f"override holds {wrong[0]!r}; a list there is of texts PATH=VALUE")
        return list(changes)
    if not isinstance(changes, Mapping):
        text = changes if isinstance(changes, str) else json.dumps(changes)
        return [f"{path}={text}"]
    items = sorted(changes.items(), key=lambda item: str(item[0]).split(".")[-1] != TAG)
    return [line for name, value in items for line in flattened(value, f"{path}.{name}".lstrip("."))]


def _whole(value: Any) -> Any:
    """Accept 1e6 as a number, which YAML reads as text."""
    try:
        number = float(value) if isinstance(value, str | float) else value
    except ValueError:
        return value
    return int(number) if isinstance(number, float) and number.is_integer() else value


def _check_types(data: Mapping[str, Any]) -> None:
    kinds: dict[str, tuple[type, ...]] = {
        **dict.fromkeys(("task", "agent", "size"), (str,)),
        **dict.fromkeys(("seed", "env_steps"), (int,)),
        "minutes": (int, float),
        "override": (dict, list),
        "env_arg": (dict, list),
        "privileged": (list,),
    }
    for name, value in data.items():
        if value is not None and (not isinstance(value, kinds[name]) or isinstance(value, bool)):
            wanted = {
                "minutes": "a number",
                "override": "a mapping of fields, or a list of PATH=VALUE",
                "env_arg": "a mapping of arguments, or a list of NAME=VALUE",
                "privileged": "a list of keys of the observation",
            }
            rule = wanted.get(name, "a name" if kinds[name] == (str,) else "a whole number")
            raise ConfigError(f"{name} is {value!r}; it must be {rule}")


def _merged(file: TrainRequest, request: TrainRequest) -> TrainRequest:
    said = {
        f.name: getattr(request, f.name) for f in fields(TrainRequest) if getattr(request, f.name) is not None
    }
    return replace(
        file,
        **said
        | {
            "override": (*file.override, *request.override),
            "env_arg": (*file.env_arg, *request.env_arg),
            "privileged": (*file.privileged, *request.privileged),
        },
    )


def _from_names(request: TrainRequest) -> Experiment:
    if request.task is None:
        raise ConfigError("no task was named; give one of s5wm list, or --config FILE that names one")
    return configure(
        request.task,
        request.agent or ("s5wm-p" if request.privileged else "s5wm"),
        request.size or "cpu",
        seed=request.seed or 0,
        budget=(request.env_steps, request.minutes),
        overrides=request.override,
        env_args=request.env_arg,
        privileged=request.privileged,
    )


def _from_whole(experiment: Experiment, request: TrainRequest, file: Path) -> Experiment:
    for name in ("task", "agent", "size"):
        said, held = getattr(request, name), getattr(experiment.name, name)
        if said is not None and said != held:
            raise ConfigError(
                f"--config {file} is a whole experiment whose {name} is {held!r}, and {said!r} was named; leave out one"
            )
    for option, given in (("--env-arg", request.env_arg), ("--privileged", request.privileged)):
        if given:
            raise ConfigError(
                f"{option} {given[0]} was given, but {file} is a whole experiment, whose environment is fixed: change "
                "it by --override task.FIELD=VALUE, or name a SPEC and a new --run"
            )
    if request.seed is not None:
        try:
            experiment = replace(experiment, seed=request.seed)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    budgeted = with_budget(experiment, env_steps=request.env_steps, minutes=request.minutes)
    return override(budgeted, request.override)
