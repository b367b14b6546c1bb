"""``N`` environments: sequential in this process, or parallel, each in a process of its own that may fail."""

import atexit
import json
import multiprocessing
import os
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from s5wm.envs.adapters.instance import Instance, Make, Metrics
from s5wm.envs.adapters.layout import Layout
from s5wm.envs.adapters.observations import Values
from s5wm.envs.adapters.worker import END, HERE, RESET, STEP, serve
from s5wm.errors import ConfigError

START_SECONDS = 300.0
"""An environment that takes longer to start has failed; simulators may load for minutes."""

END_SECONDS = 5.0
"""Given to worker processes to exit by themselves."""

Failures = dict[int, str]
"""Traceback or reason by number of the environment that failed."""


class AbstractPool(ABC):
    """Environments by number; each call returns the failures.  ``rows`` are their arrays ``[N, ...]``."""

    rows: Mapping[str, Values]
    metrics: dict[int, Metrics]
    """Metrics of the episodes that the latest call ended."""

    @abstractmethod
    def start(self, numbers: Sequence[int]) -> Failures:
        """Start these environments anew, in place of earlier ones."""

    @abstractmethod
    def reset(self, seeds: Mapping[int, int]) -> Failures:
        """Start new episodes of these."""

    @abstractmethod
    def step(self) -> Failures:
        """Step all, by the actions in ``rows``."""

    def render(self) -> Any:
        """The picture of the first environment; None where there is none, or where it is in another process."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close all."""


class LocalPool(AbstractPool):
    """In this process, one after the other."""

    def __init__(self, make: Make, layout: Layout, num: int, privileged: tuple[str, ...]) -> None:
        self._make, self._privileged, self._num = make, privileged, num
        self.rows = layout.arrays(num, bytearray(layout.bytes(num)))
        self.metrics = {}
        self._instances: dict[int, Instance] = {}

    def start(self, numbers: Sequence[int]) -> Failures:
        """Make these anew."""
        failures: Failures = {}
        for number in numbers:
            if (old := self._instances.pop(number, None)) is not None:
                old.close()
            row = {
                name: array[number : number + 1].reshape(array.shape[1:]) for name, array in self.rows.items()
            }
            try:
                self._instances[number] = Instance(self._make, row, self._privileged)
            except (Exception, SystemExit):  # noqa: BLE001 - the caller counts and reports it
                failures[number] = traceback.format_exc()
        return failures

    def reset(self, seeds: Mapping[int, int]) -> Failures:
        """New episodes."""
        return self._each({number: (seed,) for number, seed in seeds.items()}, "reset")

    def step(self) -> Failures:
        """Step all."""
        return self._each(dict.fromkeys(self._instances, ()), "step")

    def _each(self, arguments: Mapping[int, tuple[int, ...]], call: str) -> Failures:
        failures: Failures = {}
        self.metrics = {}
        for number, given in arguments.items():
            try:
                metrics = getattr(self._instances[number], call)(*given)
            except (Exception, SystemExit):  # noqa: BLE001 - a window that is closed calls sys.exit
                failures[number] = traceback.format_exc()
                continue
            if metrics:
                self.metrics[number] = metrics
        return failures

    def render(self) -> Any:
        """The picture of the first."""
        return self._instances[0].render()

    def close(self) -> None:
        """Close all."""
        for instance in self._instances.values():
            instance.close()
        self._instances.clear()


class _Worker:
    """A process and the pipe to it; ``lifeline`` is the end that closes with this process."""

    def __init__(self, process: Any, pipe: Any, lifeline: Any) -> None:
        self.process, self.pipe, self._lifeline = process, pipe, lifeline
        self.has_begun = False

    def send(self, word: bytes) -> bool:
        """Send a command; False if the process has ended."""
        try:
            self.pipe.send_bytes(word)
        except OSError:
            return False
        return True

    def end(self) -> None:
        """Kill the process and those of its environment, also in the middle of a step."""
        with suppress(ProcessLookupError, PermissionError):  # it has no group yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self._lifeline.close()


class ProcessPool(AbstractPool):
    """Each in a process started by spawn; one that does not answer within ``timeout`` seconds has failed."""

    def __init__(
        self, make: Make, layout: Layout, num: int, privileged: tuple[str, ...], timeout: float
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._memory = self._context.RawArray("b", layout.bytes(num))
        self._given = (make, layout, privileged)
        self._num, self._timeout = num, timeout
        self.rows = layout.arrays(num, self._memory)
        self.metrics = {}
        self._workers: dict[int, _Worker] = {}
        self._has_begun = False  # any of its processes
        atexit.register(self.close)  # before multiprocessing waits for them

    def start(self, numbers: Sequence[int]) -> Failures:
        """Start these processes anew, in parallel."""
        for number in numbers:
            if (old := self._workers.pop(number, None)) is not None:
                old.end()
            self._workers[number] = self._spawn(number)
        return self._answers(dict.fromkeys(numbers), START_SECONDS)

    def _spawn(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        their_line, our_line = self._context.Pipe(duplex=False)
        make, layout, privileged = self._given
        given = ((theirs, their_line), make, layout, self._memory, (number, self._num), privileged)
        process = self._context.Process(target=serve, args=given, name=f"environment {number}")
        process.start()
        theirs.close()  # so that the pipe ends with the process
        their_line.close()
        return _Worker(process, ours, our_line)

    def reset(self, seeds: Mapping[int, int]) -> Failures:
        """New episodes."""
        return self._answers({number: RESET + str(seed).encode() for number, seed in seeds.items()})

    def step(self) -> Failures:
        """Step all."""
        return self._answers(dict.fromkeys(self._workers, STEP))

    def _answers(self, words: Mapping[int, bytes | None], seconds: float | None = None) -> Failures:
        """Send commands and take the answers, the first ready first."""
        seconds = self._timeout if seconds is None else seconds
        self.metrics = {}
        waiting = {self._workers[number].pipe: number for number in words}
        for number, word in words.items():
            if word is not None:
                self._workers[number].send(word)  # a process that has ended is found by its pipe
        failures: Failures = {}
        until = time.monotonic() + seconds
        while waiting:
            ready = wait(list(waiting), timeout=max(0.0, until - time.monotonic()))
            if not ready:
                why = f"it did not answer within {seconds:g} s"
                return failures | dict.fromkeys(waiting.values(), why)
            for pipe in ready:
                if (taken := self._take(waiting[pipe])) is not None:
                    failures |= taken
                    del waiting[pipe]
        return failures

    def _died(self, worker: _Worker) -> str:
        """How a process ended; raises ``ConfigError`` where no process ever got as far as its environment."""
        worker.process.join(END_SECONDS)
        how = f"its process ended with exit code {worker.process.exitcode}"
        if worker.has_begun:
            return how
        if self._has_begun:
            return f"{how} before it made the environment"
        raise ConfigError(
            f"a process for an environment ended with exit code {worker.process.exitcode} before it began, and its "
            "traceback is above. Every process imports the script that trains: put what that does under if __name__ == "
            "'__main__':, or train without task.processes"
        )

    def _take(self, number: int) -> Failures | None:
        """Receive an answer: the failure, if it is one; None where the process says only that it has begun."""
        worker = self._workers[number]
        try:
            answer = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            return {number: self._died(worker)}
        if answer == HERE:
            worker.has_begun = self._has_begun = True
            return None
        reply: dict[str, Any] = json.loads(answer) if answer else {}
        if "failure" in reply:
            return {number: reply["failure"]}
        if "metrics" in reply:
            self.metrics[number] = reply["metrics"]
        return {}

    def close(self) -> None:
        """Close all; processes that do not exit are killed."""
        atexit.unregister(self.close)
        for worker in self._workers.values():
            worker.send(END)
        until = time.monotonic() + END_SECONDS
        for worker in self._workers.values():
            with suppress(OSError):
                worker.process.join(max(0.0, until - time.monotonic()))
            worker.end()
        self._workers.clear()
