"""Requests to stop, heard in this process."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from s5wm.envs.adapters import worker
from s5wm.training import stop as stopping
from s5wm.training.stop import StopRequest


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Signals as in a shell, however the tests were started."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes in place of the ends of this process."""
    codes: list[int] = []
    monkeypatch.setattr(stopping, "_end", codes.append)
    return codes


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_log_that_cannot_be_written_hides_no_signal(ended: list[int]) -> None:
    def broken(text: str) -> None:
        raise BrokenPipeError

    with StopRequest(broken) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert until(lambda: stop.requested)
        assert ended == []
        os.kill(os.getpid(), signal.SIGINT)
        assert until(lambda: ended == [130])


def test_a_terminal_that_closes_sends_two_signals_and_asks_once(ended: list[int]) -> None:
    said: list[str] = []
    with StopRequest(said.append) as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            assert until(lambda: stop.requested)
        os.kill(os.getpid(), signal.SIGINT)
        assert until(lambda: ended != [])
    assert ended == [130]
    assert said[0].startswith("SIGHUP: finishing this chunk") and not any(
        "SIGHUP" in text for text in said[1:]
    )


def test_what_the_process_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    with StopRequest(pytest.fail) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.2)
        assert not stop.requested
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_workers_leave_to_the_training_what_it_hears() -> None:
    assert set(worker.SIGNALS) == set(stopping.SIGNALS)
