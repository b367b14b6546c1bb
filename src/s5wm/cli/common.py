"""Shared parts of all commands."""

import functools as ft
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from s5wm.runs.files import plain


def _whole(words: list[str]) -> int:
    try:
        return int(words[0])
    except ValueError:
        value = float(words[0])  # 1e5 is how people write a hundred thousand
        if not value.is_integer():
            raise ValueError(f"{words[0]} is not a whole number") from None
        return int(value)


Whole = Annotated[
    int,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=_whole,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A count, which may be written as 100000, 100_000 or 1e5."""


def _default(value: str) -> str:
    """What help says of a default: nothing where there is none."""
    return "" if value in ("", "None", "False") else f"(default: {value})"


arg = ft.partial(tyro.conf.arg, help_behavior_hint=_default)
"""Describes an option; help shows its default where it has one."""

DONE = 0


class Verb(ABC):
    """A command of the command line: a dataclass of its options, and ``run``."""

    @classmethod
    def check_options(cls, options: Sequence[str]) -> None:
        """Raises ``ConfigError`` for options that another verb has, naming that verb; by default for none."""
        del options

    @abstractmethod
    def run(self) -> int:
        """Run it; returns the exit code."""


def print_json(data: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(plain(data)))


def table(rows: list[tuple[str, str]]) -> None:
    """Print two columns on stdout."""
    width = max((len(left) for left, _ in rows), default=0)
    for left, right in rows:
        print(f"{left:<{width}}  {right}")
