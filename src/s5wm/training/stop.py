"""Stopping on request: the first signal ends a training after its chunk, the second one ends it at once."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, a scheduler's or container's stop, and SLURM's warning before its time limit (``--signal=USR1``)."""


class StopRequest:
    """A context in which a signal only sets ``requested``; outside the main thread it does nothing.

    Python runs handlers between two of its instructions, which a compiled chunk can hold up for seconds.  The
    number of a signal therefore also reaches a thread through a pipe, and the second one ends the process there.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.requested = False
        self._log = log
        self._before: dict[signal.Signals, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._wakeup = -1
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._thread = threading.Thread(target=self._listen, args=(self._pipe[0],), daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _nothing) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipe is None or self._thread is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # ends the thread
        self._thread.join()
        os.close(self._pipe[0])
        self._pipe = None

    def _listen(self, pipe: int) -> None:
        while number := os.read(pipe, 1):
            if number[0] not in SIGNALS:
                continue  # of somebody else's handler
            if self.requested:
                os._exit(128 + number[0])
            self.requested = True
            name = signal.Signals(number[0]).name
            self._log(f"{name}: finishing this chunk and saving; once more stops at once and loses the chunk")


def _nothing(*_: object) -> None:
    """Wake the thread through its pipe."""
