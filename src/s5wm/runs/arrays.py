"""Atomic writes of arrays; apart from ``files``, which commands import that compute nothing and load no NumPy."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from s5wm.runs.files import write_bytes


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Replace ``path``, whose folder may be missing, atomically by a compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
