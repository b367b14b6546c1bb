"""An experiment: a task, an agent and a budget; what ``config.json`` holds."""

import functools as ft
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s5wm.agents.base import AbstractAgent
from s5wm.agents.dreamer.agent import DreamerConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.adapters.makers import is_importable
from s5wm.envs.adapters.tasks import FactoryConfig
from s5wm.envs.base import AbstractEnv
from s5wm.envs.host import HostEnv
from s5wm.envs.hover import HoverConfig
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ConfigError, CorruptError
from s5wm.evaluation.protocol import evaluator
from s5wm.experiments.tasks import TaskConfig
from s5wm.experiments.timing import time_pieces
from s5wm.runs.codec import Warn, decode, differences, encode, unstorable
from s5wm.runs.directory import CONFIG, lives
from s5wm.runs.files import read_json, write_json
from s5wm.runs.renamed import updated
from s5wm.training.config import TrainConfig
from s5wm.training.run import Program

SCHEMA = 2
"""1: other names of classes and fields (``s5wm.runs.renamed``)."""

LARGEST = 2**20
"""Bytes that a configuration file may have; ours have five thousand."""

AgentConfig = DreamerConfig | PPOConfig


@dataclass(frozen=True, kw_only=True)
class PresetName:
    """The names that an experiment began with; overrides may have changed what they stood for."""

    task: str = ""
    agent: str = ""
    size: str = ""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides how a training goes."""

    name: PresetName = PresetName()
    task: TaskConfig = field(default_factory=HoverConfig)
    agent: AgentConfig = field(default_factory=DreamerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must lie in [0, 2^32)")
        # To read a configuration calls no function of a user's: what it returns is checked before it is trained on.
        if not isinstance(self.task, FactoryConfig):
            self._check_task()
        if isinstance(self.agent, DreamerConfig):
            self._check_replay(self.agent)
        else:
            self._check_samples(self.agent)

    def _check_task(self) -> None:
        if (refusal := self.task.refusal()) is not None:
            raise ValueError(refusal)
        if isinstance(self.agent, DreamerConfig):
            self._check_rewards(self.agent)

    def _check_replay(self, agent: DreamerConfig) -> None:
        capacity, length = agent.replay.capacity, self.train.rollout_length
        if capacity % length:
            raise ValueError(
                f"train.rollout_length {length} does not divide agent.replay.capacity {capacity}; "
                f"choose a capacity that is a multiple of it, e.g. {max(capacity // length, 1) * length}"
            )
        if agent.replay.prefill > capacity * self.train.num_envs:
            raise ValueError(
                f"agent.replay.prefill is {agent.replay.prefill}, more than the {capacity * self.train.num_envs} time "
                "steps that the replay holds (capacity x num_envs); learning would never start"
            )

    def _check_rewards(self, agent: DreamerConfig) -> None:
        mixture, known = agent.world_model.reward_mixture, self.task.reward_range()
        if mixture is None or known is None:
            return
        (low, high), (least, largest) = mixture.bounds, known
        if low > least or high < largest:
            raise ValueError(
                f"agent.world_model.reward_mixture.bounds is {mixture.bounds}, and rewards of a step of this task may "
                f"lie between {least:.3g} and {largest:.3g}: widen it, e.g. agent.world_model.reward_mixture.bounds="
                f"[{math.floor(min(low, least))},{math.ceil(max(high, largest))}]"
            )

    def _check_samples(self, agent: PPOConfig) -> None:
        samples = self.train.num_envs * ((self.train.rollout_length - 1) // agent.segment_length)
        if samples < agent.minibatches:
            raise ValueError(
                f"agent.minibatches is {agent.minibatches}, more than the {samples} samples of a rollout "
                f"(train.num_envs x (train.rollout_length - 1), {agent.segment_length} time steps each); use fewer "
                "minibatches or longer rollouts"
            )

    def build_env(self) -> AbstractEnv[Any]:
        """The environment that is trained in."""
        env: Any = self.task.training_env()
        return env if isinstance(env, HostEnv) else AutoReset(env)

    def build_agent(self, env: AbstractEnv[Any]) -> AbstractAgent[Any, Any, Any]:
        """The agent for it; raises ``ConfigError`` where it cannot learn from what the task shows."""
        try:
            return self.agent.build(env.spec, num_envs=self.train.num_envs)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def build(self) -> Program:
        """The training program; raises ``ConfigError`` where the task or the agent refuses the other."""
        try:
            self._check_task()
        except ValueError as error:
            raise ConfigError(str(error)) from error
        env = self.build_env()
        agent = self.build_agent(env)
        return Program(
            env=env,
            agent=agent,
            updates_per_iteration=self._updates,
            evaluate=evaluator(self.task, self.train.eval_episodes),
            time_pieces=ft.partial(time_pieces, env, agent, length=self.train.rollout_length)
            if self.train.time_pieces and not isinstance(env, HostEnv)
            else None,
        )

    @property
    def _updates(self) -> int:
        agent = self.agent
        return (
            agent.updates_per_rollout
            if isinstance(agent, DreamerConfig)
            else agent.epochs * agent.minibatches
        )


def check_storable(experiment: Experiment) -> None:
    """Raises ``ConfigError`` where ``config.json`` would not give the experiment back: nobody could load its run."""
    encoded = encode(experiment)
    remedy = (
        "a run could be trained but never be loaded again. Use fields of the types they are declared with; a track of "
        "your own is a file (FileTrackConfig), a task of your own a member of TaskConfig (CONTRIBUTING)"
    )
    if odd := unstorable(encoded):
        raise ConfigError(f"{odd}: {remedy}")
    try:
        again = decode(Experiment, json.loads(json.dumps(encoded)), warn=lambda _: None)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{error}: {remedy}") from error
    if again != experiment:
        found = (
            "; ".join(differences(encoded, encode(again)))
            or "a list for a tuple, or a class for another of its name"
        )
        raise ConfigError(f"the configuration comes back changed from its file ({found}): {remedy}")


def save_experiment(path: Path, experiment: Experiment, *, start: Mapping[str, Any] | None = None) -> None:
    """Write ``config.json``; raises ``ConfigError`` where it could not be read again.

    ``start`` says whose parameters the training begins with (``train --from``).
    """
    check_storable(experiment)
    named = {"task": experiment.name.task, "agent": experiment.name.agent, "size": experiment.name.size}
    begins = {} if start is None else {"from": start}
    write_json(path, {"schema": SCHEMA, **named, **begins, "experiment": encode(experiment)})


def load_experiment(path: Path, *, warn: Warn) -> Experiment:
    """Read ``config.json``; every unknown field and wrong value is named."""
    if path.is_file() and (size := path.stat().st_size) > LARGEST:
        raise ConfigError(
            f"{path} has {size:,} bytes, where a configuration has a few thousand (at most {LARGEST:,}): "
            "it is none of ours; restore the one that the run was started with"
        )
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("schema") not in (1, SCHEMA):
        found = stored.get("schema") if isinstance(stored, dict) else None
        raise CorruptError(f"{path} has schema {str(found)[:20]!r}; this version of s5wm reads 1 to {SCHEMA}")
    try:
        described = updated(stored.get("experiment")) if stored["schema"] == 1 else stored.get("experiment")
        return decode(Experiment, described, warn=lambda text: warn(f"{path}: {text}"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def load_runnable(folder: Path, *, warn: Warn) -> Experiment:
    """The experiment of a run or a shipped policy whose environment is to be made.

    Raises ``ConfigError`` where that is of a module that is not found here.
    """
    experiment = load_experiment(folder / CONFIG, warn=warn)
    if isinstance(experiment.task, FactoryConfig) and not is_importable(experiment.task.factory):
        module = experiment.task.factory.partition(":")[0].split(".")[0]
        where = next((life["folder"] for life in reversed(lives(folder)) if "folder" in life), None)
        raise ConfigError(
            f"{folder} was trained on {experiment.task.factory}, and there is no module {module!r} here: run this from "
            f"the folder that holds {module}.py" + ("" if where is None else f" (it was trained in {where})")
        )
    return experiment
