"""All tasks: their configurations and names."""

from collections.abc import Callable, Sequence

from s5wm.envs.adapters.arguments import parsed
from s5wm.envs.adapters.compiled import BraxConfig, GymnaxConfig
from s5wm.envs.adapters.makers import makers_in
from s5wm.envs.adapters.tasks import FactoryConfig, GymnasiumConfig
from s5wm.envs.hover import HoverConfig
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.tasks import RACES
from s5wm.envs.toys import ChainConfig, DoubleIntegratorConfig, MemoryCueConfig
from s5wm.errors import ConfigError
from s5wm.runs.codec import suggest

TaskConfig = (
    RacingConfig
    | HoverConfig
    | DoubleIntegratorConfig
    | MemoryCueConfig
    | ChainConfig
    | GymnasiumConfig
    | GymnaxConfig
    | BraxConfig
    | FactoryConfig
)
"""What ``config.json`` may hold as a task."""


TASKS: dict[str, Callable[[], TaskConfig]] = {
    **RACES,
    "hover": HoverConfig,
    "toy/double-integrator": DoubleIntegratorConfig,
    "toy/memory": MemoryCueConfig,
}


SOURCES = {"gymnasium": GymnasiumConfig, "gymnax": GymnaxConfig, "brax": BraxConfig}

SPECS = ("gymnasium:ID", "gymnax:ID", "brax:NAME", "package.module:function")
"""Forms of names of environments outside of the package."""


def task_config(spec: str, env_args: Sequence[str] = (), privileged: Sequence[str] = ()) -> TaskConfig:
    """The task of a SPEC: a name of ours, or one of the forms of ``SPECS``.

    ``env_args`` (``NAME=VALUE``) are arguments of what makes the environment, ``privileged`` keys of a ``Dict``
    observation that are hidden from the policy.
    """
    parsed(env_args)
    source, colon, name = spec.partition(":")
    if colon and source and name:
        args, hidden = tuple(env_args), tuple(privileged)
        if source == "gymnasium":
            return GymnasiumConfig(id=name, args=args, privileged=hidden)
        if source not in SOURCES:
            return FactoryConfig(factory=spec, args=args, privileged=hidden)
        if not hidden:
            return SOURCES[source](id=name, args=args)
    if privileged:
        raise ConfigError(
            f"--privileged {privileged[0]} names a key of a Gymnasium Dict observation (gymnasium:ID or "
            f"package.module:function); {spec} shows none"
        )
    if spec not in TASKS:
        raise ConfigError(_unknown(spec))
    if env_args:
        raise ConfigError(
            f"--env-arg {env_args[0]} is for environments named {', '.join(SPECS)}; fields of {spec} are changed "
            f"with --override task.{env_args[0]}"
        )
    return TASKS[spec]()


def is_known(task: TaskConfig) -> bool:
    """Whether it is a task of this package, whose scales of observations and rewards presets rely on."""
    return not isinstance(task, GymnasiumConfig | GymnaxConfig | BraxConfig | FactoryConfig)


def _unknown(spec: str) -> str:
    if "=" in spec:
        return (
            f"{spec!r} stands where the task's name belongs; each change of a field needs the option before it: "
            f"--override {spec}"
        )
    if own := makers_in(spec):
        return f"unknown task {spec!r}: did you mean {' or '.join(own)}?"
    forms = f"; environments of others are named {', '.join(SPECS)}"
    return f"unknown task {spec!r}" + suggest(spec, list(TASKS)) + forms
