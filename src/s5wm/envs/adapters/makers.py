"""Functions that make users' environments; workers call them too, so they load no JAX."""

import importlib
import inspect
import os
import sys
from typing import Any

from s5wm.envs.adapters.arguments import parsed
from s5wm.errors import ConfigError


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


def accepts(spec: str, name: str) -> bool:
    """Whether the function takes a keyword argument of this name."""
    try:
        known = inspect.signature(_found(spec)).parameters.values()
    except ValueError:  # a callable without a signature
        return False
    return any(each.name == name or each.kind is each.VAR_KEYWORD for each in known)


def call_factory(spec: str, args: tuple[str, ...]) -> Any:
    """What the function returns; raises ``ConfigError`` where there is none, or it raises."""
    factory = _found(spec)
    given = parsed(args)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{spec} cannot be called with {', '.join(args) or 'no arguments'}: {error}"
        ) from error
    except ValueError:  # a callable without a signature
        pass
    return factory(**given)


def _found(spec: str) -> Any:
    """The function; raises ``ConfigError`` where there is none."""
    module, _, name = spec.partition(":")
    # A run that somebody else made names a function that is called when it is loaded.
    if module.split(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"no environment {spec!r}: {module} is a module of Python itself")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # an installed command does not look there by itself
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"no environment {spec!r}: {module} is there, but {error}; install it"
            ) from error
        raise ConfigError(
            f"no environment {spec!r}: {error}; give package.module:function, from the folder {here} or installed"
        ) from error
    if (factory := getattr(found, name, None)) is None:
        raise ConfigError(f"no environment {spec!r}: {module} has no {name}")
    return factory
