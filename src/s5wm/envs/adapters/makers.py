"""Functions that make users' environments; workers call them too, so they load no JAX."""

import ast
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
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
        return gymnasium.make(name, **(parsed(args) | more))
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
    """What the function returns.

    Raises ``ConfigError`` where there is no such function, it takes other arguments, or it returns several
    environments in one.
    """
    factory = _found(spec)
    if not callable(factory):
        raise ConfigError(
            f"{spec} is an object ({type(factory).__name__}), not what makes one: name its class, or a function"
        )
    given = parsed(args)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{spec} cannot be called with {', '.join(args) or 'no arguments'}: {error}; arguments are given with "
            "--env-arg NAME=VALUE"
        ) from error
    except ValueError:  # a callable without a signature
        pass
    made = factory(**given)
    if hasattr(made, "single_observation_space"):
        raise ConfigError(
            f"{spec} returned {type(made).__name__}, many environments in one; return a single one: s5wm makes as many "
            "as train.num_envs says"
        )
    return made


def _found(spec: str) -> Any:
    """The function; raises ``ConfigError`` where there is none."""
    module, _, name = spec.partition(":")
    if module.endswith(".py"):
        raise ConfigError(f"no environment {spec!r}: leave out .py: {module.removesuffix('.py')}:{name}")
    # A run that somebody else made names a function that is called when it is loaded.
    if module.split(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"no environment {spec!r}: {module} is a module of Python itself")
    _look_here()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"no environment {spec!r}: {module} is there, but {error}; install it"
            ) from error
        raise ConfigError(
            f"no environment {spec!r}: {error}: run this from the folder that holds {module.split('.')[0]}.py (here: "
            f"{os.getcwd()}), or install it"
        ) from error
    if (factory := getattr(found, name, None)) is None:
        raise ConfigError(f"no environment {spec!r}: {module} has no {name}")
    return factory


def is_importable(spec: str) -> bool:
    """Whether the module of the function is found here; nothing of it runs."""
    _look_here()
    return importlib.util.find_spec(spec.partition(":")[0].split(".")[0]) is not None


def makers_in(word: str) -> list[str]:
    """Names ``module:maker`` of environments in a file of this folder, ``my_env`` or ``my_env.py``; it is not run.

    A function ``make``, else classes with ``reset`` and ``step``; where there are none, any functions.
    """
    file = Path(f"{word.removesuffix('.py')}.py")
    if not file.stem.isidentifier() or len(file.parts) > 1 or not file.is_file():
        return []
    try:
        top = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return []
    classes = [each for each in top if isinstance(each, ast.ClassDef)]
    environments = [each.name for each in classes if {"reset", "step"} <= {m.name for m in _methods(each)}]
    functions = [each.name for each in top if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]
    made = ["make"] if "make" in functions else environments or functions
    return [f"{file.stem}:{name}" for name in made]


def _methods(of: ast.ClassDef) -> list[ast.FunctionDef]:
    return [each for each in of.body if isinstance(each, ast.FunctionDef)]


def _look_here() -> None:
    """Modules of the working directory are found; an installed command does not look there by itself."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
