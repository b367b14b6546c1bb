"""One look for every picture: colours, type, figures that belong to no window, and how they are saved."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s5wm.errors import WriteError

INK = "#1f2730"  # text, real flight
MUTED = "#6b7682"  # secondary text
FAINT = "#c9cfd6"  # other flights, ground lines
GROUND, GRID = "#f3f5f7", "#e2e6ea"
TRACE = "#d3d8de"  # where something flew, shadows
PASSED, MISSED, UNREACHED = "#2a9d6f", "#d62839", "#9aa5b1"  # gates
IMAGINED = "#3b76d6"
CYCLE = ("#3b76d6", "#e07b39", "#2a9d6f", "#8e5bb5", "#c2456b", "#5f7d8c", "#b39323", "#21a0b5")

SPEED: Colormap = LinearSegmentedColormap.from_list(
    # slow to fast, dark to light; without the green and grey of the gates, and never near white
    "speed",
    ["#2c2a8c", "#5b2fb0", "#9433b5", "#c73d9a", "#e8566f", "#f57f45", "#f7ab2f"],
)

_RC: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9.0,
    "text.parse_math": False,  # names of metrics and folders may hold dollars
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.hashsalt": "s5wm",  # the same picture is the same file
}


FAR_APART = 10.0
"""Ratio of the longest training to the shortest from which on a picture of both has a logarithmic abscissa."""


@contextmanager
def house_style() -> Generator[None]:
    """The look, inside a ``with`` only: importing this package changes nobody else's figures."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches, without a window and without pyplot's list of open figures."""
    return Figure(figsize=(width, height), dpi=150)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Writes ``stem.png`` and ``stem.svg``, one of which the name may end with already.

    Raises ``WriteError``.
    """
    name = stem.stem if stem.suffix in (".png", ".svg") else stem.name  # lr-0.5 ends with no suffix
    png, svg = stem.with_name(f"{name}.png"), stem.with_name(f"{name}.svg")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(png)
        figure.savefig(svg, metadata={"Date": None})
    except OSError as error:
        raise WriteError(f"cannot write {png}: {error.strerror or error}; name another place") from error
    return [png, svg]


def speed_scale(speeds: Float[np.ndarray, " T"]) -> Normalize:
    """From standing to the top speed, rounded up to whole m/s, so that pictures of a run compare."""
    top = float(np.max(speeds, initial=1.0))
    return Normalize(0.0, float(np.ceil(top)))


def coloured_line(
    pieces: Sequence[Float[np.ndarray, "_ 2"]], colours: Any, width: float, zorder: float
) -> LineCollection:
    """Pieces of a line, all in one colour or each in its own, as one artist."""
    return LineCollection(
        list(pieces), colors=colours, linewidths=width, zorder=zorder, capstyle="round", joinstyle="round"
    )


def bare(axes: Axes) -> None:
    """Only what is drawn: no frame, ticks or grid, and a metre is a metre in both directions."""
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="box")


def heading(figure: Figure, title: str, caption: str, *, top: float = 0.965) -> None:
    """Title and one line of facts, in the upper left corner."""
    line = 0.27 / figure.get_figheight()
    figure.text(0.03, top, title, fontsize=14, fontweight="bold", color=INK, va="center")
    figure.text(0.03, top - line, caption, fontsize=9.5, color=MUTED, va="center")


def training_axis(
    axes: Axes, spans: Sequence[tuple[float, float]], form: Callable[[float], str], *, room: float
) -> None:
    """Abscissa for trainings that go from here to there, e.g. in environment steps; ``room`` is left at its end."""
    longest, shortest = max(end for _, end in spans), min(end for _, end in spans)
    if longest > FAR_APART * max(shortest, 0.0) > 0.0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(min(begin for begin, _ in spans if begin > 0.0) / 1.15, longest * (1.0 + 4.0 * room))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_xlim(0, (1.0 + room) * max(longest, 1e-6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def bound_line(axes: Axes, bound: float) -> None:
    """The time-optimal lap, in s, across a panel of lap times."""
    axes.axhline(bound, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        f"time-optimal {bound:.2f} s", (0.01, bound), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", color=MUTED, fontsize=8,
    )  # fmt: skip


def plain_number(value: float, digits: int = 2) -> str:
    """A number in so many digits for a person: 0.0147 is 0.015, 1234 is 1,234; an exponent only for what is tiny."""
    if abs(value) >= 10.0 ** (digits - 1):
        return f"{value:,.0f}"
    if 0.0 < abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return np.format_float_positional(value, precision=digits, unique=False, fractional=False, trim="-")
