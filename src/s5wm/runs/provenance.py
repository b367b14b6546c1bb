"""Provenance of a result: machine, versions, commit and date."""

import datetime
import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

SOURCES = ("src", "benchmarks", "examples/trainings", "pyproject.toml")
"""Of a checkout: what the numbers of a result depend on."""

PACKAGES = ("s5wm", "jax", "jaxlib", "equinox", "optax", "numpy")


def provenance() -> dict[str, Any]:
    """``device``, ``platform``, ``versions``, ``commit`` and ``date`` of this process."""
    import jax

    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else cpu_name(),
        "platform": device.platform,
        "versions": versions(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of every package that affects the numbers of a training."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def version(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Model of the processor, as the system reports it."""
    return _cpu_line("model name") or platform.processor() or platform.machine()


def cpu_flags() -> str:
    """Features of the processor, as the system reports them; empty if it does not."""
    return _cpu_line("flags") or _cpu_line("Features")


def _cpu_line(name: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


@functools.cache  # what is loaded is that of the beginning, whatever is committed meanwhile
def commit() -> str | None:
    """Commit of the source of this package, with ``+`` if what affects results has local changes.

    That is ``SOURCES`` and new files of Python in them.  None outside of a checkout.
    """
    return commit_of(Path(__file__).parents[3])


def commit_of(checkout: Path) -> str | None:
    """As ``commit``, of any folder; reads it each time."""
    if not (checkout / ".git").exists():
        return None
    try:
        head = _git(checkout, "rev-parse", "--short=12", "HEAD")
        changed = _git(
            checkout, "status", "--porcelain", "--untracked-files=all", "--", *SOURCES
        ).splitlines()
        return head + (
            "+" if any(not line.startswith("??") or line.endswith(".py") for line in changed) else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
