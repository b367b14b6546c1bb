"""Errors that users can cause, with the exit code of the command line.

Every message names the value, the rule it breaks and the usual fix.
"""

from pathlib import Path

STOPPED = 75
"""Exit code of what was stopped on request, and goes on when it is started again."""


class S5wmError(Exception):
    """An error that a user can act on: shown without a traceback."""

    exit_code = 1


class ConfigError(S5wmError, ValueError):
    """A name, field or value that no training can start from; found before anything compiles."""

    exit_code = 2


class ObservationError(S5wmError, ValueError):
    """An observation that no action can come from; what the agent remembers stays as it was."""


class EnvironmentFailedError(S5wmError):
    """Environments failed too often; ``failure_reason`` is the latest traceback."""

    exit_code = 69

    def __init__(self, message: str, failure_reason: str) -> None:
        super().__init__(message)
        self.failure_reason = failure_reason


class DivergedError(S5wmError):
    """Training produced numbers that are not finite."""

    exit_code = 70


class RunDirectoryError(S5wmError):
    """A run directory that cannot be created or used, or that another process is using."""

    exit_code = 73


class WriteError(S5wmError):
    """A file could not be written in the middle of a run."""

    exit_code = 74


class CorruptError(S5wmError):
    """A stored file is not what was written: its checksum, shape or syntax is wrong."""

    exit_code = 65


class Stopped(SystemExit):
    """``s5wm.train`` or ``s5wm.train_seeds`` was stopped by a signal, with all that it trained saved in ``path``.

    The same call with ``run=path`` goes on.  It is no ``Exception``: a script that does not catch it by name ends, with
    the exit code 75 of the command line, rather than begin its next training.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(STOPPED)
        self.path = path
