"""Standard streams of a command, however it was started."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import TextIOWrapper


def open_streams() -> None:
    """Open those that are closed, into nothing, and let none fail at a letter that it cannot write.

    The next file that is opened takes the number of a closed stream, and whatever a library writes to standard error
    would land in it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def flush_streams() -> None:
    """Flush both outputs; what one of them does not take is dropped.

    Python flushes once more at its end, and would exit with 120 where that fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)


@contextmanager
def droppable() -> Generator[None]:
    """A context in which what an output does not take is dropped, as that of a terminal that has closed."""
    with suppress(OSError):
        yield
    flush_streams()
