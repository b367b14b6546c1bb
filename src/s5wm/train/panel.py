"""The live panel of a training in a terminal."""

from typing import Any

from s5wm.train.log import Row, eta_text, shown

_SHARES = (
    ("time/world_model", "world model"),
    ("time/actor_critic", "actor-critic"),
    ("time/collect", "collection"),
)


class Panel:
    """A table that is redrawn with every row; texts scroll above it.  Needs rich."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._latest: Row = {}
        self._live: Any = Live(console=Console(stderr=True), refresh_per_second=4, transient=False)
        self._live.start()

    def row(self, row: Row) -> None:
        """Redraw; what the row does not say stays as it was last said."""
        self._latest |= row
        self._live.update(self._draw())

    def say(self, text: str) -> None:
        """Above the table."""
        self._live.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last table standing."""
        self._live.stop()

    def _draw(self) -> Any:
        from rich.panel import Panel as Box
        from rich.table import Table

        table = Table.grid(padding=(0, 2), expand=True)
        for _ in range(4):
            table.add_column(justify="left")
        cells = [(title, form.format(self._latest[key])) for key, title, form in shown(self._latest)]
        cells += [(key[5:], f"{self._latest[key]:.3g}") for key in sorted(self._latest) if key[:5] == "loss/"]
        cells += [(title, f"{self._latest[key]:.0%}") for key, title in _SHARES if key in self._latest]
        for left, right in zip(cells[::2], [*cells[1::2], ("", "")], strict=False):
            table.add_row(left[0], left[1], right[0], right[1])
        minutes = self._latest.get("wall_minutes", 0.0)
        return Box(table, title=self._title, subtitle=f"{minutes:.1f} min, ETA {eta_text(self._latest)}")
