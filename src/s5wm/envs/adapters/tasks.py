"""Tasks of users' environments: by Gymnasium id, or by a function that makes one."""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from s5wm.envs.adapters.gymnasium import Hosting, host_env, time_limit
from s5wm.envs.adapters.instance import close
from s5wm.envs.adapters.makers import accepts, call_factory, is_importable, make_gymnasium
from s5wm.envs.base import AbstractEnv
from s5wm.envs.groups import Groups
from s5wm.envs.host import HostEnv
from s5wm.envs.task import AbstractTask, Column, Episodes, Perturbations, ReportedMetric, Summary
from s5wm.errors import ConfigError

EVAL_STEPS = 10_000
"""Of an evaluation's episode where an environment has no limit of its own."""

LATER: dict[str, Any] = {"since": "environments that are made anew"}

PICTURES = "rgb_array"
"""Gymnasium's ``render_mode`` in which environments give pictures."""

Metrics = Mapping[str, Float[np.ndarray, " K"]]


def stated_success(metrics: Metrics) -> Bool[np.ndarray, " K"] | None:
    """Metric that environments use for success; an episode without it was not solved."""
    return None if "success" not in metrics else np.nan_to_num(metrics["success"]) > 0.5


@dataclass(frozen=True, kw_only=True)
class HostedTask(AbstractTask):
    """An environment that may live outside the compiled program, and how it is run there."""

    args: tuple[str, ...] = ()  # NAME=VALUE
    # A process for every environment; pays where a step takes longer than about a millisecond.
    processes: bool = False
    timeout: float = field(
        default=60.0, metadata=LATER
    )  # s; a process that does not answer within has failed
    # An environment that fails is made anew; more failures than this within ten minutes end the training.
    failures: int = field(default=10, metadata=LATER)
    # Step while the device learns, by parameters that are one iteration older.
    overlap: bool = field(default=False, metadata=LATER)
    # Keys of a Dict observation, for critics and decoders and not for the policy.
    privileged: tuple[str, ...] = field(default=(), metadata=LATER)
    eval_steps: int = EVAL_STEPS  # longest episode of an evaluation, where the environment has no limit

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"task.timeout is {self.timeout} s; it must be positive")
        if self.failures < 0:
            raise ValueError(f"task.failures is {self.failures}; give 0 (none is borne) or more")

    @property
    def hosting(self) -> Hosting:
        """The same for the adapter."""
        return Hosting(
            processes=self.processes,
            timeout=self.timeout,
            failures=self.failures,
            overlap=self.overlap,
            privileged=self.privileged,
        )

    def rendering(self) -> HostEnv | None:
        """The environment in this process, made to give pictures; None where it is none of Gymnasium's."""
        return None


@dataclass(frozen=True, kw_only=True)
class GymnasiumConfig(HostedTask):
    """An environment of Gymnasium, by its id, with ``args`` for ``gymnasium.make``; it is stepped in Python."""

    id: str

    def build(self) -> AbstractEnv[Any]:
        """Its placeholder."""
        return _gymnasium_env(self)

    @property
    def max_steps(self) -> int:
        """Its time limit."""
        return _gymnasium_limit(self)

    @property
    def maker(self) -> "ft.partial[Any]":
        """Makes one."""
        return ft.partial(make_gymnasium, self.id, self.args)

    def rendering(self) -> HostEnv:
        """With ``render_mode`` "rgb_array"."""
        args = (*self.args, f"render_mode={PICTURES}")
        return host_env(ft.partial(make_gymnasium, self.id, args), replace(self.hosting, processes=False))

    def success(self, metrics: Metrics, returns: Float[np.ndarray, " K"]) -> Bool[np.ndarray, " K"] | None:
        """The metric ``success`` of its ``info`` at the end of an episode, if there is one."""
        del returns
        return stated_success(metrics)


@ft.cache
def _gymnasium_env(config: GymnasiumConfig) -> AbstractEnv[Any]:
    return host_env(config.maker, config.hosting)


@ft.cache
def _gymnasium_limit(config: GymnasiumConfig) -> int:
    env = config.maker()
    try:
        return time_limit(env) or config.eval_steps
    finally:
        close(env)


@dataclass(frozen=True, kw_only=True)
class AgentKind:
    """For whom a task takes its training form (arguments of ``AbstractTask.as_trained``)."""

    imagines: bool
    size: str


@dataclass(frozen=True, kw_only=True)
class FactoryConfig(HostedTask):
    """What ``package.module:function`` returns, called with ``args``.

    That is one of our environments (``AbstractEnv``), one with its evaluation (``AbstractTask``), or a Gymnasium
    environment.  The module is imported from where Python finds it, and from the working directory.  Every rule is
    that of the task returned (``underlying``).
    """

    factory: str
    is_evaluation: bool = False  # whether it is the form by which the task is judged
    trained_by: AgentKind | None = field(default=None, metadata={"since": "tasks that a function returns"})

    @property
    def underlying(self) -> AbstractTask:
        """The task that the function returned, in the form chosen; of an environment alone, the usual rules."""
        return _made(self)

    @property
    def maker(self) -> "ft.partial[Any]":
        """Makes one."""
        return ft.partial(call_factory, self.factory, self.args)

    def rendering(self) -> HostEnv | None:
        """With ``render_mode`` "rgb_array", where the function takes it."""
        made = self.underlying
        if not isinstance(made, _EnvironmentTask) or not isinstance(made.env, HostEnv):
            return None
        takes = accepts(self.factory, "render_mode")
        args = (*self.args, f"render_mode={PICTURES}") if takes else self.args
        make = ft.partial(call_factory, self.factory, args)
        return host_env(make, replace(self.hosting, processes=False))

    def eval_config(self) -> "FactoryConfig":
        """The same function; ``underlying`` is then the evaluation form of its task."""
        return replace(self, is_evaluation=True)

    def as_trained(self, *, imagines: bool, size: str) -> "FactoryConfig":
        """The same function; ``underlying`` is then the training form of its task, where that has another."""
        made = self.underlying
        has_another = made.as_trained(imagines=imagines, size=size) != made
        return replace(self, trained_by=AgentKind(imagines=imagines, size=size)) if has_another else self

    def build(self) -> AbstractEnv[Any]:
        """The environment, or its placeholder."""
        return self.underlying.build()

    def training_env(self) -> AbstractEnv[Any]:
        """That of the task."""
        return self.underlying.training_env()

    @property
    def max_steps(self) -> int:
        """Of the task; else the environment's time limit, or ``eval_steps``."""
        return self.underlying.max_steps

    def refusal(self) -> str | None:
        """That of the task."""
        return self.underlying.refusal()

    def reward_range(self) -> tuple[float, float] | None:
        """That of the task."""
        return self.underlying.reward_range()

    def perturbations(self) -> Perturbations | None:
        """Those of the task."""
        return self.underlying.perturbations()

    def success(self, metrics: Metrics, returns: Float[np.ndarray, " K"]) -> Bool[np.ndarray, " K"] | None:
        """By the task's rule; else by the environment's own metric ``success``, if there is one."""
        return self.underlying.success(metrics, returns)

    def summary(self, env: AbstractEnv[Any], episodes: Episodes) -> Summary:
        """That of the task."""
        return self.underlying.summary(env, episodes)

    def score(self, summary: Mapping[str, Any]) -> tuple[float, ...]:
        """That of the task."""
        return self.underlying.score(summary)

    @property
    def reported_metrics(self) -> Sequence[ReportedMetric]:
        """Those of the task."""
        return self.underlying.reported_metrics

    @property
    def columns(self) -> Sequence[Column]:
        """Those of the task."""
        return self.underlying.columns

    @property
    def bounds(self) -> Mapping[str, float]:
        """Those of the task; none where its module is not found, since curves are drawn without it, too."""
        return self.underlying.bounds if is_importable(self.factory) else {}

    def state_groups(self, target: Literal["observation", "privileged"]) -> Groups | None:
        """Those of the task."""
        return self.underlying.state_groups(target)


@dataclass(frozen=True, kw_only=True, eq=False)
class _EnvironmentTask(AbstractTask):
    """The task of an environment that came without one."""

    env: AbstractEnv[Any]
    limit: Callable[[], int]  # asked for only where it is needed, since that may make an environment

    def build(self) -> AbstractEnv[Any]:
        return self.env

    @property
    def max_steps(self) -> int:
        own = getattr(self.env, "max_steps", None)
        return own if isinstance(own, int) else self.limit()

    def success(self, metrics: Metrics, returns: Float[np.ndarray, " K"]) -> Bool[np.ndarray, " K"] | None:
        del returns
        return stated_success(metrics)


@ft.cache
def _made(config: FactoryConfig) -> AbstractTask:
    made = call_factory(config.factory, config.args)
    if isinstance(made, AbstractTask | AbstractEnv) and config.privileged:
        raise ConfigError(
            f"--privileged {config.privileged[0]} names a key of a Gymnasium Dict observation, and {config.factory} "
            f"returned {type(made).__name__}: there the environment itself defines what is privileged"
        )
    if isinstance(made, AbstractTask):
        return _in_form(made, config)
    if isinstance(made, AbstractEnv):
        return _EnvironmentTask(env=made, limit=lambda: config.eval_steps)
    if not all(hasattr(made, name) for name in ("observation_space", "action_space", "reset", "step")):
        raise ConfigError(
            f"{config.factory} returned {type(made).__name__}; it must return an environment (s5wm.envs.base."
            "AbstractEnv, or Gymnasium's) or a task (s5wm.envs.task.AbstractTask)"
        )
    close(made)
    return _EnvironmentTask(env=host_env(config.maker, config.hosting), limit=lambda: _factory_limit(config))


def _in_form(task: AbstractTask, config: FactoryConfig) -> AbstractTask:
    kind = config.trained_by
    if kind is not None:
        task = task.as_trained(imagines=kind.imagines, size=kind.size)
    return task.eval_config() if config.is_evaluation else task


@ft.cache
def _factory_limit(config: FactoryConfig) -> int:
    made = call_factory(config.factory, config.args)
    try:
        return time_limit(made) or config.eval_steps
    finally:
        close(made)
