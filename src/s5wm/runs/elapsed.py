"""What takes long tells how long it has taken so far."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def elapsed(log: Callable[[str], None], what: str, *, every: float = 10.0) -> Generator[None]:
    """Say ``WHAT: 10 s so far`` after every ``every`` seconds that the body takes; nothing where it is quicker."""
    begun, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(every):
            log(f"{what}: {time.monotonic() - begun:.0f} s so far")

    teller = threading.Thread(target=tell, name="elapsed", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
