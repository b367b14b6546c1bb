"""The long-memory example runs and learns."""

import runpy
from pathlib import Path


def test_recalls_cues_across_a_short_delay() -> None:
    path = Path(__file__).parents[2] / "examples" / "long_memory.py"
    main = runpy.run_path(str(path))["main"]
    assert main(delay=6, batch=16, chunks=2, updates=60) > 0.6  # chance is 0.25
