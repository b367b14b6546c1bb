import jax
import numpy as np
import pytest

from s5wm.train import memory


def test_the_line_about_the_replay_counts_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 8_000_000_000)
    frames = jax.ShapeDtypeStruct((64, 1000, 64, 64, 3), np.dtype(np.uint8))
    state = {"replay": {"rows": frames}, "params": jax.ShapeDtypeStruct((10**9,), np.dtype(np.float32))}
    assert memory.replay_line(state) == "replay 0.79 GB of 8.0 GB free"
    assert memory.replay_line({"params": state["params"]}) is None
