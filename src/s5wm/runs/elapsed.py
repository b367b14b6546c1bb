"""Progress lines of a step that takes long."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def elapsed(log: Callable[[str], None], what: str, *, every: float = 10.0) -> Generator[None]:
    """Log ``WHAT: 10 s so far`` every ``every`` seconds while the body runs."""
    begun, done = time.monotonic(), threading.Event()

    def report() -> None:
        while not done.wait(every):
            log(f"{what}: {time.monotonic() - begun:.0f} s so far")

    reporter = threading.Thread(target=report, name="elapsed", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()
