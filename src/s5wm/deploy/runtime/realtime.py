"""Real-time settings of a process: a fixed priority, locked memory, no garbage collection.

Each alone is not enough.  Without a fixed priority another program runs first; with one, a page of code or data that
the system has dropped from memory still has to come back from the disk before the period can go on.
"""

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass

from s5wm.errors import ConfigError

LOCK_CURRENT, LOCK_FUTURE = 1, 2  # of mlockall


def prepare(priority: int, log: Callable[[str], None]) -> None:
    """Apply real-time settings to this process; nothing for priority 0.

    Raises ``ConfigError`` where the priority is not allowed; says where memory cannot be locked, which costs less.
    """
    if priority == 0:
        return
    set_priority(priority)
    if (reason := lock_memory()) is not None:
        log(f"memory is not locked ({reason}): a page that the system drops delays a period")
    gc.collect()
    gc.freeze()


def set_priority(priority: int) -> None:
    """A fixed priority for this process (0: as usual); raises ``ConfigError`` where the system does not allow it."""
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError as error:
        raise ConfigError(
            f"--priority {priority} is not allowed here ({error.strerror}): run as root, give the user an rtprio "
            "limit, or leave it out"
        ) from error


def lock_memory() -> str | None:
    """Keep all pages of this process in RAM, those to come as well; the reason where the system does not allow it."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.mlockall(LOCK_CURRENT | LOCK_FUTURE) == 0:
            return None
    except (OSError, AttributeError):
        return "no mlockall on this system"
    return os.strerror(ctypes.get_errno())


def unlock_memory() -> None:
    """Undo ``lock_memory``."""
    ctypes.CDLL(None).munlockall()


@dataclass(frozen=True)
class Disturbances:
    """Counts of disturbances: page faults, preemptions, stolen time."""

    page_faults: int  # answered from memory
    page_faults_from_disk: int
    preemptions: int  # by processes of a higher priority, or because the time slice was over
    stolen_seconds: float  # of all cores, that the host of a virtual machine gave to others

    @staticmethod
    def so_far() -> "Disturbances":
        """Since the process (or, for stolen time, the machine) began."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Disturbances(usage.ru_minflt, usage.ru_majflt, usage.ru_nivcsw, _stolen())

    def since(self, before: "Disturbances") -> "Disturbances":
        """The difference."""
        return Disturbances(
            self.page_faults - before.page_faults,
            self.page_faults_from_disk - before.page_faults_from_disk,
            self.preemptions - before.preemptions,
            self.stolen_seconds - before.stolen_seconds,
        )


def _stolen() -> float:
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = file.readline().split()
    except OSError:
        return 0.0
    return int(ticks[8]) / os.sysconf("SC_CLK_TCK") if len(ticks) > 8 else 0.0
