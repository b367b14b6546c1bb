from pathlib import Path

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


@pytest.mark.parametrize(
    ("folder", "limit", "used", "dropped"),
    [
        (".", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
    ids=["version 2", "version 1"],
)
def test_the_limit_of_a_container_counts_without_what_was_read_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, limit: str, used: str, dropped: str
) -> None:
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    monkeypatch.setattr(memory, "_system_free", lambda: 10**12)
    monkeypatch.setattr(memory, "_address_space_free", lambda: None)
    assert memory.free_bytes() == 10**12
    group = tmp_path / folder
    group.mkdir(exist_ok=True)
    (group / limit).write_text("8000000000\n")
    (group / used).write_text("7000000000\n")
    (group / "memory.stat").write_text(f"anon 1\nactive_file 2\n{dropped} 6000000000\nslab 3\n")
    assert memory.free_bytes() == 7_000_000_000
    (group / limit).write_text("max\n")
    assert memory.free_bytes() == 10**12
