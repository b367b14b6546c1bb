"""``NAME=VALUE`` of the command line as keyword arguments."""

import ast
import json
from collections.abc import Sequence
from typing import Any

from s5wm.errors import ConfigError

WORDS = {"True": True, "False": False, "None": None}

BRACKETS = ("(", "[", "{")


def parsed(args: Sequence[str]) -> dict[str, Any]:
    """Values are JSON or Python's ``True``, ``False``, ``None``, tuples, lists and dictionaries; all else is text.

    Raises ``ConfigError`` for what is not ``NAME=VALUE``.
    """
    values: dict[str, Any] = {}
    for each in args:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--env-arg {each!r} is not of the form NAME=VALUE, e.g. gravity=9.8")
        values[name] = _value(text)
    return values


def _value(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        pass
    if not text.startswith(BRACKETS):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):  # an unhashable key is a TypeError
        return text
