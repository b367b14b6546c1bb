import jax
import numpy as np
import pytest

from s5wm.distributed import memory
from s5wm.errors import ConfigError


def test_the_line_about_the_replay_counts_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 8_000_000_000)
    frames = jax.ShapeDtypeStruct((64, 1000, 64, 64, 3), np.dtype(np.uint8))
    state = {"replay": {"rows": frames}, "params": jax.ShapeDtypeStruct((10**9,), np.dtype(np.float32))}
    assert memory.replay_line(state) == "replay 0.79 GB of 8.0 GB free"
    assert memory.replay_line({"params": state["params"]}) is None
    assert memory.replay_line(state, seeds=3) == "replay 2.36 GB of 8.0 GB free"


@pytest.mark.parametrize(
    ("cpu", "seeds", "copies"), [(True, 1, 2), (False, 1, 1), (True, 2, 3), (False, 2, 2)]
)
def test_a_state_is_refused_where_it_does_not_fit_with_its_copies(
    monkeypatch: pytest.MonkeyPatch, cpu: bool, seeds: int, copies: int
) -> None:
    """On a CPU one for saving; of several seeds another for the stack that the program works on."""
    state = {"replay": jax.ShapeDtypeStruct((10**9,), np.dtype(np.uint8))}
    needed = 10**9 * seeds * copies
    monkeypatch.setattr(memory, "_is_cpu", lambda: cpu)
    monkeypatch.setattr(memory, "free_bytes", lambda: int(needed / memory.HEADROOM) + 1)
    memory.check_memory(state, seeds=seeds)
    monkeypatch.setattr(memory, "free_bytes", lambda: int(needed / memory.HEADROOM) - 10)
    with pytest.raises(ConfigError, match=rf"{seeds}.0 GB, {seeds * copies}.0 GB with copies") as caught:
        memory.check_memory(state, seeds=seeds)
    assert ("fewer seeds together" in str(caught.value)) == (seeds > 1)
