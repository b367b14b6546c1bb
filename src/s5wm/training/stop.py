"""Stopping on request: the first signal ends a training after its chunk, the second one ends it at once.

Where there is nothing to save yet, the first one ends it at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

SHOW_CURSOR = "\x1b[?25h"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, a scheduler's or container's stop, and SLURM's warning before its time limit (``--signal=USR1``)."""


class StopRequest:
    """A context in which a signal only sets ``requested``; outside the main thread it does nothing.

    Python runs handlers between two of its instructions, which a compiled chunk can hold up for seconds.  The
    number of a signal therefore also reaches a thread through a pipe, and the second one ends the process there; so
    does the first one while ``ends_at_once``.
    """

    def __init__(self, log: Callable[[str], None], *, ends_at_once: bool = False) -> None:
        self.requested = False
        self.ends_at_once = ends_at_once
        """Whether nothing would be lost by it; may change at any time."""
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
            name = signal.Signals(number[0]).name
            if self.ends_at_once:
                self._log(f"{name}: stopped with nothing new to save; the same command starts it again")
            if self.ends_at_once or self.requested:
                _end(128 + number[0])
            self.requested = True
            self._log(f"{name}: finishing this chunk and saving; once more stops at once and loses the chunk")


def _end(code: int) -> NoReturn:
    """End the process; a live panel has hidden the cursor."""
    with suppress(OSError, ValueError, AttributeError):  # a stream that is closed, or none
        if sys.stderr.isatty():
            sys.stderr.write(SHOW_CURSOR)
        sys.stderr.flush()
    os._exit(code)


def _nothing(*_: object) -> None:
    """Wake the thread through its pipe."""
