"""Checks of environment variables of JAX and XLA that our programs do not work with.

Each is refused by name, with the rule and the fix, before anything compiles.  docs/reliability.md lists what works.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from s5wm.errors import ConfigError

GPU_FILES = ("nvidia*", "dxg", "nvgpu*", "nvhost-gpu")
"""Names in /dev, one of which a machine with an NVIDIA GPU has (Linux, WSL, Jetson)."""

PARSE_FLAGS = "from jaxlib import xla_client; xla_client.CompileOptions()"


def check_imports(environ: Mapping[str, str] = os.environ) -> None:
    """Import JAX; raises ``ConfigError`` naming the variable that it refuses.

    XLA would end the whole process at a flag it does not know, so another process tries ``XLA_FLAGS`` first.
    """
    if environ.get("XLA_FLAGS"):
        _check_flags(environ)
    try:
        import jax  # noqa: F401 # pyright: ignore[reportUnusedImport] -- it reads its variables when it is imported
    except ValueError as error:
        raise ConfigError(_refused(str(error), environ)) from error


def check_settings(only: str = "") -> None:
    """Raises ``ConfigError`` for a setting of JAX that our programs do not work with; ``only``: for one of a name."""
    import jax

    for name, is_wrong, rule in _RULES:
        value = getattr(jax.config, name, None)
        if is_wrong(value) and only in (name, ""):
            raise ConfigError(f"{name.upper()} is {value}: {rule}")


def check_devices() -> None:
    """Raises ``ConfigError`` where JAX finds no device to run on."""
    if problem := device_problem():
        raise ConfigError(problem)


def device_problem(dev: Path = Path("/dev")) -> str | None:
    """Why JAX has no device to run on; None where it has."""
    import jax

    asked: str | None = getattr(jax.config, "jax_platforms", None)
    fix = "unset JAX_PLATFORMS to take what is here, or set it to cpu"
    names = {name.strip() for name in (asked or "").split(",")}
    if names & {"cuda", "gpu"} and not any(found for name in GPU_FILES for found in dev.glob(name)):
        # Known without asking: CUDA can take minutes to find out.
        return f"JAX_PLATFORMS is {asked!r}, and this machine has no NVIDIA GPU that can be seen: {fix}"
    try:
        jax.devices()
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # the latter where the plug-in of a platform is not installed
        reason = str(error).splitlines()[0] if str(error) else "its plug-in is not installed"
        return f"JAX finds no device: JAX_PLATFORMS is {asked!r}, {reason}; {fix}"
    return None


Rule = tuple[str, Callable[[Any], bool], str]

_GUARDS = ("disallow", "disallow_explicit")

_RULES: tuple[Rule, ...] = (
    ("jax_enable_x64", bool, "s5wm computes in float32, also where JAX would widen it; unset it"),
    (
        "jax_disable_jit",
        bool,
        "every training is one compiled program, which would take days without; unset it",
    ),
    (
        "jax_debug_key_reuse",
        bool,
        "the checker takes the keys of scans under vmap for used twice, which they are not; unset it",
    ),
    *(
        (
            f"jax_transfer_guard{direction}",
            lambda value: value in _GUARDS,
            "observations, schedules and figures cross between host and device; set it to log, or unset it",
        )
        for direction in ("", "_host_to_device", "_device_to_host", "_device_to_device")
    ),
)


def _check_flags(environ: Mapping[str, str]) -> None:
    tried = subprocess.run(
        [sys.executable, "-c", PARSE_FLAGS], env=dict(environ), capture_output=True, text=True, check=False
    )
    if tried.returncode:
        said = [line for line in tried.stderr.splitlines() if "XLA_FLAGS" in line or "flag" in line.lower()]
        reason = said[-1].split("] ", 1)[-1] if said else f"exit code {tried.returncode}"
        raise ConfigError(f"XLA refuses XLA_FLAGS={environ['XLA_FLAGS']!r}: {reason}; correct or unset it")


def _refused(reason: str, environ: Mapping[str, str]) -> str:
    """JAX's message about a variable, with its name and value."""
    known = [name for name in environ if name.startswith("JAX_")]
    meant = [name for name in known if name in reason or name.lower() in reason] or known
    settings = ", ".join(f"{name}={environ[name]!r}" for name in meant) or "its settings"
    return f"JAX refuses {settings}: {reason.strip()}; correct or unset it"
