"""The live panel of a training in a terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from s5wm.runs.log import Row, eta_text, shown
from s5wm.runs.reporting import Column, ReportedMetric
from s5wm.runs.signals import by_group, is_rounding, words_for

_SHARES = (
    ("time/world_model", "time: world model"),
    ("time/actor_critic", "time: actor-critic"),
    ("time/collect", "time: collection"),
)
_RETURN = "episode/return_nominal"
_SUCCESS = ReportedMetric(name="success_rate", log="success", form="success {:.0%}", better="max")
_EVAL_RETURN = ReportedMetric(name="return_nominal", log="return_nominal", form="return {:.1f}", better="max")
_LEVELS = "▁▂▃▄▅▆▇█"

WIDTH = 40
"""Characters of a sparkline."""


class Panel:
    """A table that is redrawn with every row; texts scroll above it.  Needs rich."""

    def __init__(
        self, title: str, columns: Sequence[Column] = (), metrics: Sequence[ReportedMetric] = ()
    ) -> None:
        """With a task's own ``columns`` and ``metrics`` after those of every training."""
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._columns = columns
        self._metrics = [f for f in (_SUCCESS, *metrics, _EVAL_RETURN) if f.better and f.form]
        self._latest: Row = {}
        self._returns: list[float] = []
        self._best: Row = {}
        self._live: Any = Live(console=Console(stderr=True), refresh_per_second=4, transient=False)
        self._live.start()

    def recall(self, rows: Iterable[Row]) -> None:
        """Count the rows of a run that goes on as written before."""
        for row in rows:
            self._take(row)

    def write_row(self, row: Row) -> None:
        """Redraw; columns that the row lacks keep their last value."""
        self._latest |= row
        self._take(row)
        self._live.update(self._draw())

    def _take(self, row: Row) -> None:
        """Its part in the course of the return and in the best evaluations."""
        if _is_number(row.get(_RETURN)):
            self._returns.append(row[_RETURN])
        for metric in self._metrics:
            name, better = f"eval/{metric.log}", max if metric.better == "max" else min
            if _is_number(row.get(name)):
                self._best[name] = better(row[name], self._best.get(name, row[name]))

    def write_line(self, text: str) -> None:
        """Print above the table, where the terminal is still there."""
        with suppress(OSError):
            self._live.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Stop redrawing; the last table stays."""
        with suppress(OSError):
            self._live.stop()

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel as Box
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2), expand=True)
        for _ in range(4):
            table.add_column(justify="left")
        cells = [
            (title, form.format(self._latest[key])) for key, title, form in shown(self._latest, self._columns)
        ]
        losses = by_group(
            n for n, value in self._latest.items() if n.startswith("loss/") and not is_rounding(n, value)
        )
        cells += [
            (words_for(name), f"{self._latest[name]:.3g}") for group in losses.values() for name in group
        ]
        cells += [(title, f"{self._latest[key]:.0%}") for key, title in _SHARES if key in self._latest]
        for left, right in zip(cells[::2], [*cells[1::2], ("", "")], strict=False):
            table.add_row(*map(Text, (*left, *right)))  # a bracket in a name is no markup
        minutes = self._latest.get("wall_minutes", 0.0)
        lines = [line for line in (_sparkline(self._returns), _best(self._metrics, self._best)) if line]
        return Box(
            Group(table, *lines),
            title=Text(self._title),
            subtitle=f"{minutes:.1f} min, ETA {eta_text(self._latest)}",
        )


def _is_number(value: float | None) -> bool:
    """Whether a row has this value: what is not finite is null in ``metrics.jsonl``."""
    return value is not None and math.isfinite(value)


def sparkline(values: Sequence[float]) -> str:
    """Values as bars from the lowest to the highest, means of neighbours where they are more than ``WIDTH``."""
    count = min(len(values), WIDTH)
    edges = [round(index * len(values) / count) for index in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (mean - low) / (high - low)) if high > low else 0] for mean in means)


def _sparkline(returns: Sequence[float]) -> str:
    """Sparkline of the return of training episodes."""
    if len(returns) < 2:
        return ""
    return f"return  {sparkline(returns)}  {returns[0]:.1f} to {returns[-1]:.1f}, at most {max(returns):.1f}"


def _best(metrics: Sequence[ReportedMetric], best: Mapping[str, float]) -> str:
    """The best value of each metric of the evaluations so far."""
    named = [(f"eval/{metric.log}", metric.form or "{}") for metric in metrics]
    parts = [form.format(best[name]) for name, form in named if name in best]
    return f"best evaluations so far: {', '.join(parts)}" if parts else ""
