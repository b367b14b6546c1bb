"""``NAME=VALUE`` of the command line as keyword arguments."""

import json
from collections.abc import Sequence
from typing import Any

from s5wm.errors import ConfigError


def parsed(args: Sequence[str]) -> dict[str, Any]:
    """Values are JSON, and bare words are text; raises ``ConfigError`` for other forms."""
    values: dict[str, Any] = {}
    for each in args:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--env-arg {each!r} is not of the form NAME=VALUE, e.g. gravity=9.8")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
