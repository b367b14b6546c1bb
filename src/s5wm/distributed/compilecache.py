"""Cache of compiled programs between starts of the command line.

JAX finds a program by its text, its options and the version of the compiler.  What decides the machine code besides
that is in the name of a folder: the processor and what it can do, how many cores may be used, versions and every
variable that JAX or XLA reads.  An entry carries its SHA-256, and one that has changed is compiled anew.  Entries are
code: the folder belongs to the user alone (0700), or is not used.

``S5WM_CACHE=off`` turns it off, ``S5WM_CACHE=/some/folder`` puts it into that folder.  Where a user has set JAX's own
cache, that is used and ours is not.
"""

import hashlib
import importlib
import json
import os
import platform
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s5wm.errors import ConfigError
from s5wm.runs.provenance import cpu_flags, cpu_name, version

SWITCH = "S5WM_CACHE"
OFF = ("off", "0", "no", "false")

FOLDER = "s5wm-compiled"
"""Name of the cache folder; nothing outside of it is written or removed."""

LIMIT = 2**29
"""Bytes of all entries together; the least recently used go first."""

DECISIVE = ("XLA_", "JAX_", "TF_", "LIBTPU_", "NVIDIA_TF32_", "NPROC", "PJRT_")
"""Prefixes of environment variables that may affect compilation."""

JAX_OWN = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")

DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class CacheState:
    """The folder in use, or why there is none."""

    folder: Path | None
    reason: str = ""


def turn_on(environ: Mapping[str, str] = os.environ) -> CacheState:
    """Turn the cache on where it is safe; raises ``ConfigError`` for an invalid ``S5WM_CACHE``."""
    root, reason = _root(environ)
    if root is None:
        return CacheState(None, reason)
    folder = root / machine(environ)
    try:
        for each in (root, folder):
            _own(each)
    except OSError as error:
        return CacheState(None, f"{error.filename or root}: {error.strerror or error}")
    import jax

    if not _install(ProgramCache(folder, root)):
        return CacheState(None, "this version of JAX keeps programs in another way")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # files beside ours, without bound
    return CacheState(folder)


def machine(environ: Mapping[str, str]) -> str:
    """Hash of all that affects machine code except the program's text and the compiler's version."""
    decisive = {
        "processor": [platform.machine(), cpu_name(), cpu_flags()],
        "cores": len(os.sched_getaffinity(0)),
        "libc": platform.libc_ver(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "s5wm")},
        "variables": {name: value for name, value in environ.items() if name.startswith(DECISIVE)},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


class ProgramCache:
    """Entries as files ``KEY`` of a SHA-256 and its content; written atomically.

    What cannot be read or written is as if it were not there: no error of a disk may end a training.
    """

    def __init__(self, folder: Path, root: Path, limit: int = LIMIT) -> None:
        self._path = folder
        self._root = root
        self._limit = limit

    def get(self, key: str) -> bytes | None:
        """A verified entry, or None; a damaged one is removed."""
        path = self._path / key
        try:
            content = path.read_bytes()
            value = content[DIGEST:]
            if hashlib.sha256(value).digest() != content[:DIGEST]:
                path.unlink()
                return None
            os.utime(path)  # used last now
        except OSError:
            return None
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store an entry, unless it is too large for the bound."""
        if len(value) > self._limit:
            return
        part = None
        try:
            with tempfile.NamedTemporaryFile(dir=self._path, delete=False) as file:
                part = Path(file.name)
                file.write(hashlib.sha256(value).digest() + value)
            part.replace(self._path / key)
        except OSError:
            if part is not None:
                part.unlink(missing_ok=True)
            return
        self._make_room()

    def _make_room(self) -> None:
        entries: list[tuple[float, int, Path]] = []
        for path in self._root.glob("*/*"):
            try:
                found = path.stat()
            except OSError:  # another process has removed it
                continue
            entries.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def _root(environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """Path of the cache, or why there is none."""
    asked = environ.get(SWITCH, "")
    if asked.lower() in OFF:
        return None, f"{SWITCH} is {asked}"
    if asked and not Path(asked).is_absolute():
        raise ConfigError(f"{SWITCH} is {asked!r}; give off, or an absolute path of a folder of your own")
    if own := [name for name in JAX_OWN if name in environ]:
        return None, f"{own[0]} is set"
    base = asked or environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / FOLDER, ""
    try:
        return Path.home() / ".cache" / FOLDER, ""
    except RuntimeError:
        return None, "there is no home directory"


def _own(folder: Path) -> None:
    """Make the folder, for this user alone; raises ``PermissionError`` where another one may have written to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(1, "it is not this user's alone, and compiled programs are code", str(folder))
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    if not os.access(folder, os.W_OK):
        raise PermissionError(1, "it cannot be written to", str(folder))


def _install(cache: ProgramCache) -> bool:
    """Give JAX our cache in place of its files, which carry no checksum and are written in place."""
    try:
        module: Any = importlib.import_module("jax._src.compilation_cache")
    except ImportError:
        return False
    if not all(hasattr(module, name) for name in ("get_file_cache", "reset_cache")):
        return False
    module.reset_cache()
    module.get_file_cache = lambda path: (cache, path)
    return True
