"""Files of results that are complete or not there: what is measured bit by bit has another name until then."""

import json
import os
from pathlib import Path
from typing import Any


def partial(file: Path) -> Path:
    """Where the beginning of a measurement is kept."""
    return file.with_name(f"{file.name}.partial")


def keep(file: Path, content: dict[str, Any], *, indent: int = 1) -> None:
    """Write what has been measured so far."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial(file).write_text(json.dumps(content, indent=indent) + "\n")


def complete(file: Path) -> None:
    """All of it has been measured: it replaces what was there."""
    os.replace(partial(file), file)
    print(f"written: {file}", flush=True)
