"""How many failures of environments are borne."""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from s5wm.errors import EnvironmentFailedError

SECONDS_PER_MINUTE = 60.0

ADVICE = "Correct the environment (s5wm check-env), or allow more with --override task.failures=N"


class FailureBudget:
    """Ends a training after more than ``most`` failures within some minutes, or of one environment in a row.

    Calls in which an environment failed do not count in these minutes: one that hangs costs its whole timeout at every
    failure, and one that loads for long does so at every restart.
    """

    def __init__(self, most: int, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._minutes, self._clock = most, minutes, clock
        self._times: deque[float] = deque()
        self._in_a_row: Counter[int] = Counter()
        self._began = self._lost = 0.0
        self._is_lost = False

    @contextmanager
    def call(self) -> Generator[None]:
        """Around every call of the environments and what it takes to make those anew that failed in it."""
        self._began, self._is_lost = self._clock() - self._lost, False
        yield
        if self._is_lost:
            self._lost = self._clock() - self._began

    def stepped(self, numbers: Iterable[int]) -> None:
        """These environments made a step without a failure."""
        for number in numbers:
            self._in_a_row.pop(number, None)

    def spend(self, number: int, why: str) -> None:
        """Count a failure; raises ``EnvironmentFailedError`` after too many."""
        self._is_lost = True
        self._in_a_row[number] += 1
        self._times.append(self._began)
        while self._began - self._times[0] > self._minutes * SECONDS_PER_MINUTE:
            self._times.popleft()
        if self._in_a_row[number] > self._most:
            row = self._in_a_row[number]
            self._end(f"environment {number} failed {row} times in a row, the latest: {reason(why)}", why)
        if len(self._times) > self._most:
            within = f"{len(self._times)} times within {self._minutes:g} minutes"
            self._end(f"environments failed {within}, number {number} the latest: {reason(why)}", why)

    @staticmethod
    def _end(what: str, why: str) -> None:
        raise EnvironmentFailedError(f"{what}. {ADVICE}", why)


def reason(why: str) -> str:
    """The last line of a traceback."""
    return why.strip().splitlines()[-1]
