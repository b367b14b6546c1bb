"""What every verb shares."""

import json
import sys
from abc import ABC, abstractmethod
from typing import Any

from s5wm.train.files import plain

DONE = 0
STOPPED = 75


class Verb(ABC):
    """One verb: a dataclass of its options, and what it does."""

    @abstractmethod
    def run(self) -> int:
        """Do it; the exit code."""


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(plain(data)))


def say(text: str) -> None:
    """One line for a person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def table(rows: list[tuple[str, str]]) -> None:
    """Two columns on stdout."""
    width = max((len(left) for left, _ in rows), default=0)
    for left, right in rows:
        print(f"{left:<{width}}  {right}")
