"""Lines of text on standard error, on which nothing depends."""

import sys
from contextlib import suppress


def print_line(text: str) -> None:
    """Print one line on stderr; a full disk, or a reader or terminal that is gone, costs the line alone."""
    with suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(text, file=sys.stderr, flush=True)
