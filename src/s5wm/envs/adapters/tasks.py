"""Environments that the package does not know, as tasks: by their Gymnasium id, or by a function that makes one."""

import functools as ft
import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from s5wm.envs.adapters.arguments import parsed
from s5wm.envs.adapters.gymnasium import host_env, time_limit
from s5wm.envs.base import AbstractEnv
from s5wm.envs.groups import Groups
from s5wm.envs.task import AbstractTask, Column, Figure
from s5wm.errors import ConfigError

EVAL_STEPS = 10_000
"""Of an evaluation's episode where an environment tells no limit of its own."""

Metrics = Mapping[str, Float[np.ndarray, " K"]]


def stated_success(metrics: Metrics) -> Bool[np.ndarray, " K"] | None:
    """Where environments tell whether an episode was solved; one that ended untold was not."""
    return None if "success" not in metrics else np.nan_to_num(metrics["success"]) > 0.5


@dataclass(frozen=True, kw_only=True)
class GymnasiumConfig(AbstractTask):
    """An environment of Gymnasium, by its id, with ``args`` (``NAME=VALUE``) for ``gymnasium.make``.

    It lives outside the compiled program.  ``processes`` gives every copy a process of its own, which pays where a step
    takes longer than about a millisecond.
    """

    id: str
    args: tuple[str, ...] = ()
    processes: bool = False
    eval_steps: int = EVAL_STEPS  # longest episode of an evaluation, where the environment has no time limit

    def build(self) -> AbstractEnv[Any]:
        """What stands for it."""
        return _gymnasium_env(self)

    @property
    def max_steps(self) -> int:
        """Its time limit."""
        return _limit_of(self.maker, self.eval_steps)

    @property
    def maker(self) -> "ft.partial[Any]":
        """Makes one."""
        return ft.partial(make_gymnasium, self.id, self.args)

    def success(self, metrics: Metrics, returns: Float[np.ndarray, " K"]) -> Bool[np.ndarray, " K"] | None:
        """As its ``info`` tells at the end of an episode, if it does."""
        del returns
        return stated_success(metrics)


@ft.cache
def _gymnasium_env(config: GymnasiumConfig) -> AbstractEnv[Any]:
    return host_env(config.maker, processes=config.processes)


@ft.cache
def _limit_of(maker: Any, otherwise: int) -> int:
    env = maker()
    try:
        return time_limit(env) or otherwise
    finally:
        env.close()


def make_gymnasium(name: str, args: tuple[str, ...], **more: Any) -> Any:
    """``gymnasium.make``; raises ``ConfigError`` where that does not make one."""
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ConfigError("gymnasium is not installed: pip install 's5wm[gym]'") from error
    try:
        return gymnasium.make(name, **parsed(args), **more)
    except (gymnasium.error.Error, TypeError, ModuleNotFoundError) as error:
        raise ConfigError(f"gymnasium:{name} cannot be made: {error}") from error


@dataclass(frozen=True, kw_only=True)
class FactoryConfig(AbstractTask):
    """What ``package.module:function`` returns, called with ``args`` (``NAME=VALUE``).

    That is one of our environments (``AbstractEnv``), one with its evaluation (``AbstractTask``), or a Gymnasium
    environment.  The module is imported from where Python finds it, and from the working directory.
    """

    factory: str
    args: tuple[str, ...] = ()
    processes: bool = False  # of a Gymnasium environment: a process for every copy
    eval_steps: int = EVAL_STEPS  # longest episode of an evaluation, where nothing tells a limit
    is_evaluation: bool = False  # whether it is the form by which the task is judged

    def build(self) -> AbstractEnv[Any]:
        """The environment, or what stands for it."""
        made = _made(self)
        return made.build() if isinstance(made, AbstractTask) else made

    def eval_config(self) -> "FactoryConfig":
        """That of the task, where the function returned one."""
        return replace(self, is_evaluation=True)

    @property
    def max_steps(self) -> int:
        """Of the task; else the environment's time limit, or ``eval_steps``."""
        made = _made(self)
        if isinstance(made, AbstractTask):
            return made.max_steps
        limit = getattr(made, "max_steps", None)
        return int(limit) if isinstance(limit, int) else _factory_limit(self)

    def success(self, metrics: Metrics, returns: Float[np.ndarray, " K"]) -> Bool[np.ndarray, " K"] | None:
        """As the task tells; else as the environment's own metric ``success`` does, if it has such."""
        made = _made(self)
        return made.success(metrics, returns) if isinstance(made, AbstractTask) else stated_success(metrics)

    def score(self, summary: Mapping[str, Any]) -> tuple[float, ...]:
        """That of the task, if there is one."""
        made = _made(self)
        return made.score(summary) if isinstance(made, AbstractTask) else super().score(summary)

    @property
    def figures(self) -> Sequence[Figure]:
        """Those of the task, if there is one."""
        made = _made(self)
        return made.figures if isinstance(made, AbstractTask) else super().figures

    @property
    def columns(self) -> Sequence[Column]:
        """Those of the task, if there is one."""
        made = _made(self)
        return made.columns if isinstance(made, AbstractTask) else super().columns

    def state_groups(self, target: Literal["observation", "privileged"]) -> Groups | None:
        """Those of the task, if there is one."""
        made = _made(self)
        return made.state_groups(target) if isinstance(made, AbstractTask) else None


@ft.cache
def _made(config: FactoryConfig) -> AbstractTask | AbstractEnv[Any]:
    made = call_factory(config.factory, config.args)
    if isinstance(made, AbstractTask):
        return made.eval_config() if config.is_evaluation else made
    if isinstance(made, AbstractEnv):
        return made
    if not all(hasattr(made, name) for name in ("observation_space", "action_space", "reset", "step")):
        raise ConfigError(
            f"{config.factory} returned {type(made).__name__}; it must return an environment (s5wm.envs.base."
            "AbstractEnv, or Gymnasium's) or a task (s5wm.envs.task.AbstractTask)"
        )
    made.close()
    return host_env(ft.partial(call_factory, config.factory, config.args), processes=config.processes)


@ft.cache
def _factory_limit(config: FactoryConfig) -> int:
    made = call_factory(config.factory, config.args)
    if isinstance(made, AbstractEnv):
        return config.eval_steps
    try:
        return time_limit(made) or config.eval_steps
    finally:
        made.close()


def call_factory(spec: str, args: tuple[str, ...]) -> Any:
    """What the function returns; raises ``ConfigError`` where there is none, or it raises."""
    module, _, name = spec.partition(":")
    # A run that somebody else made names a function that is called when it is loaded.
    if module.split(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"no environment {spec!r}: {module} is a module of Python itself")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # an installed command does not look there by itself
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"no environment {spec!r}: {error}; give package.module:function") from error
    if (factory := getattr(found, name, None)) is None:
        raise ConfigError(f"no environment {spec!r}: {module} has no {name}")
    given = parsed(args)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{spec} cannot be called with {', '.join(args) or 'no arguments'}: {error}"
        ) from error
    except ValueError:  # a callable that tells no signature
        pass
    return factory(**given)
