"""Files that users write: JSON, and YAML where PyYAML is installed.  They are data; nothing in them is ever run."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s5wm.errors import ConfigError

LARGEST = 2**20
"""Bytes that such a file may have; a track has a thousand."""

SUFFIXES = (".json", ".yaml", ".yml")


def read_data(file: Path) -> Any:
    """The object in a file; raises ``ConfigError`` with place and reason where there is none to read."""
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"its name ends in {file.suffix!r}; give a file of {', '.join(SUFFIXES)}")
    try:
        size = file.stat().st_size
        if size > LARGEST:
            raise ConfigError(f"it has {size:,} bytes; such a file has at most {LARGEST:,}")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"it is no text in UTF-8: {error}") from error
    data = _json(text) if file.suffix.lower() == ".json" else _yaml(text)
    if not isinstance(data, dict):
        raise ConfigError(f"it holds {type(data).__name__}; an object of fields is expected")
    return data


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"it is no JSON: {error}") from error


def _yaml(text: str) -> Any:
    if find_spec("yaml") is None:
        raise ConfigError("YAML needs PyYAML: pip install pyyaml, or write the same as JSON")
    yaml: Any = importlib.import_module("yaml")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"it is no YAML: {error}") from error
