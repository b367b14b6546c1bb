"""Atomic writes, JSON and checksums."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s5wm.errors import CorruptError, WriteError

MANIFEST = "manifest.json"


def plain(value: Any) -> Any:
    """JSON values: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def write_json(path: Path, data: Any) -> None:
    """Replace ``path`` atomically by ``data``."""
    write_bytes(path, (json.dumps(plain(data), indent=2) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically by ``content``."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write it at once
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def digest(data: Any) -> str:
    """SHA-256 of JSON values; the order of names does not matter."""
    return hashlib.sha256(json.dumps(plain(data), sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Contents of a JSON file."""
    try:
        with _readable(path):
            text = path.read_text(encoding="utf-8")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not valid JSON: {error}") from error


@contextmanager
def replaced_folder(folder: Path) -> Generator[Path]:
    """A new folder to write to, which gets a manifest and then the place of an older one; raises ``WriteError``.

    Whatever ends the program meanwhile, ``whole_folder`` finds one of them.
    """
    new, older = folder.with_name(folder.name + ".partial"), _older(folder)
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        write_manifest(new)
        if folder.is_dir():
            shutil.rmtree(older, ignore_errors=True)
            os.replace(folder, older)
        os.replace(new, folder)
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(older, ignore_errors=True)


def whole_folder(folder: Path) -> Path:
    """The folder, or the older one where ``replaced_folder`` is, or was ended, between two of its steps.

    Nothing is moved: a reader that put the older folder back would be in the way of a training that replaces it.
    """
    older = _older(folder)
    return older if older.is_dir() and not folder.is_dir() else folder


def _older(folder: Path) -> Path:
    return folder.with_name(folder.name + ".older")


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every file below ``folder``."""
    files = {_name(folder, path): _digest(path) for path in _files(folder)}
    write_json(folder / MANIFEST, {"sha256": files})


def verify_manifest(folder: Path, *, allows_more: bool = False) -> None:
    """Raises ``CorruptError`` unless ``folder`` holds the files it was written with, bit for bit, and no others.

    ``allows_more``: others may lie beside them, in a folder where people work.
    """
    stored = read_json(folder / MANIFEST)
    expected = stored.get("sha256") if isinstance(stored, dict) else None
    if not isinstance(expected, dict):
        raise CorruptError(f"{folder / MANIFEST} holds no checksums")
    with _readable(folder):
        present = {_name(folder, path): path for path in _files(folder)}
    if odd := sorted(expected.keys() - present.keys() if allows_more else expected.keys() ^ present.keys()):
        raise CorruptError(f"{folder}: file {odd[0]} is {'missing' if odd[0] in expected else 'not its own'}")
    for name in expected:
        path = present[name]
        with _readable(path):
            found = _digest(path)
        if found != expected[name]:
            raise CorruptError(f"{path} has changed since it was written (SHA-256)")


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """Raises ``CorruptError`` for what the disk does not give: a bad sector is damage like any other."""
    try:
        yield
    except OSError as error:
        raise CorruptError(f"cannot read {path}: {error.strerror or error}") from error


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
