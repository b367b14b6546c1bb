"""How many failures are borne, by a clock of the test's own."""

import pytest

from s5wm.envs.adapters.budget import FailureBudget
from s5wm.errors import EnvironmentFailedError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def failures_until_the_end(budget: FailureBudget, clock: Clock, *, good: float, hangs: float) -> int:
    """Failures of environment 0, each after a good step and ``good`` seconds, that cost ``hangs`` seconds."""
    for count in range(1, 100):
        clock.now += good
        if good:
            with budget.call():
                budget.stepped([0, 1])
        try:
            with budget.call():
                clock.now += hangs
                budget.stepped([1])
                budget.spend(0, "Traceback\nTimeoutError: it hangs")
        except EnvironmentFailedError as error:
            assert "TimeoutError: it hangs" in str(error) and "task.failures" in str(error)
            return count
    return 0


@pytest.mark.parametrize(
    ("good", "hangs", "ends_after"),
    [
        (0.0, 60.0, 11),  # always hangs: eleven in a row, though never more than ten in ten minutes
        (1.0, 60.0, 11),  # hangs at every second step
        (59.0, 600.0, 11),  # time lost to failures is no time between them
        (61.0, 0.0, 0),  # ten in ten minutes are borne for ever
        (59.0, 0.0, 11),
    ],
)
def test_failures_are_counted_in_time_that_is_not_lost(good: float, hangs: float, ends_after: int) -> None:
    clock = Clock()
    assert failures_until_the_end(FailureBudget(10, 10.0, clock), clock, good=good, hangs=hangs) == ends_after


def test_failures_in_a_row_count_however_slow_the_others_are() -> None:
    clock = Clock()
    budget = FailureBudget(3, 10.0, clock)
    with pytest.raises(EnvironmentFailedError, match="environment 5 failed 4 times in a row"):
        for _ in range(9):
            clock.now += 1000.0
            with budget.call():
                budget.stepped([0, 1])
                budget.spend(5, "it did not answer within 60 s")


def test_no_failure_is_borne_where_none_may_be() -> None:
    budget = FailureBudget(0, 10.0)
    with pytest.raises(EnvironmentFailedError), budget.call():
        budget.spend(0, "it broke")
