"""Files of arrays (``.npz``), written whole or not at all.

Apart from ``files``, which commands import that compute nothing and load no NumPy.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s5wm.runs.files import write_bytes


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace ``path``, in a folder that need not be there, by the compressed arrays; raises ``WriteError``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
