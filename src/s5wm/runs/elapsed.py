"""Progress lines of a step that takes long."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def elapsed(log: Callable[[str], None], what: str, *, every: float = 10.0) -> Generator[None]:
    """Log ``WHAT: 10 s so far`` every ``every`` seconds while the body runs; after a minute of it, every minute."""
    begun, done = time.monotonic(), threading.Event()

    def report() -> None:
        pause = every
        while not done.wait(pause):
            passed = time.monotonic() - begun
            log(f"{what}: {passed:.0f} s so far")
            pause = every if passed < 60.0 else max(every, 60.0)

    reporter = threading.Thread(target=report, name="elapsed", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()
