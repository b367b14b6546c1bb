"""How a task's own metrics are shown: names in the log, columns of the live panel, and words of a headline."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ReportedMetric:
    """A metric of the summary, and how it is shown."""

    name: str  # in the summary and in eval.json
    log: str | None = None  # after "eval/" in the log; None: it is not logged
    form: str | None = None  # in the line for a person, e.g. "lap {:.2f} s"; None: it is not in it
    better: Literal["max", "min"] | None = None  # the live panel shows the best so far
    sampled: bool = False  # whether it is also reported of episodes with sampled actions


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric of the log that the console shows: its name there, a short title and a format."""

    name: str
    title: str
    form: str = "{:.2f}"
