"""The cache of compiled programs: private, bounded, whole, out of the way of JAX's own, and of no effect on results."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from s5wm.distributed import compilecache
from s5wm.distributed.compilecache import DIGEST, FOLDER, ProgramCache, machine, turn_on
from s5wm.errors import ConfigError

from ..conftest import ROUGH

KEY = "jit_step-0123"


@pytest.fixture
def cache(tmp_path: Path) -> ProgramCache:
    folder = tmp_path / "root" / "machine"
    folder.mkdir(parents=True)
    return ProgramCache(folder, folder.parent, limit=900)


def entries(cache: ProgramCache) -> list[str]:
    return sorted(path.name for path in cache._path.iterdir())


def test_what_was_put_is_found_again(cache: ProgramCache) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"
    assert entries(cache) == [KEY]


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_entry_is_none(cache: ProgramCache, damage: str) -> None:
    cache.put(KEY, b"code of a program")
    path = cache._path / KEY
    content = bytearray(path.read_bytes())
    content[DIGEST + 3] ^= 1
    changed = {"flipped": bytes(content), "cut": path.read_bytes()[:-2], "emptied": b""}
    path.write_bytes(changed[damage])
    assert cache.get(KEY) is None
    assert entries(cache) == []
    cache.put(KEY, b"compiled anew")
    assert cache.get(KEY) == b"compiled anew"


def test_a_full_disk_leaves_nothing_and_ends_nothing(cache: ProgramCache, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache.put(KEY, b"code")
    assert entries(cache) == []
    assert cache.get(KEY) is None


def test_a_folder_that_is_gone_is_no_error(cache: ProgramCache) -> None:
    cache._path.rmdir()
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None


def test_the_least_recently_used_entries_go_first(cache: ProgramCache) -> None:
    other = cache._root / "another-machine"
    other.mkdir()
    ProgramCache(other, cache._root, limit=900).put("old", b"x" * 300)
    os.utime(other / "old", (1, 1))
    for age, name in ((20, "a"), (10, "b")):
        cache.put(name, b"x" * 300)
        os.utime(cache._path / name, (100 - age, 100 - age))
    assert list(other.iterdir()) == []  # the third of 332 bytes was one too many for 900
    assert cache.get("a") is not None  # used last, though older
    cache.put("c", b"x" * 300)
    cache.put("d", b"x" * 300)
    assert "b" not in entries(cache)
    assert sum(path.stat().st_size for path in cache._path.iterdir()) <= 900
    cache.put("larger than the bound", b"x" * 1001)
    assert "larger than the bound" not in entries(cache)


@pytest.fixture
def uninstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX in this process keeps the cache of the tests."""
    monkeypatch.setattr(compilecache, "_install", lambda _: False)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"S5WM_CACHE": "off"}, "S5WM_CACHE is off"),
        ({"S5WM_CACHE": "OFF"}, "S5WM_CACHE is OFF"),
        ({"JAX_COMPILATION_CACHE_DIR": "/x"}, "JAX_COMPILATION_CACHE_DIR is set"),
        ({"JAX_ENABLE_COMPILATION_CACHE": "0"}, "JAX_ENABLE_COMPILATION_CACHE is set"),
        ({"S5WM_CACHE": "/proc/nowhere"}, "/proc/nowhere"),
    ],
)
def test_where_it_is_not_used(environ: dict[str, str], reason: str) -> None:
    state = turn_on(environ)
    assert state.folder is None
    assert reason in state.reason


def test_a_mistyped_switch_is_refused() -> None:
    with pytest.raises(ConfigError, match="S5WM_CACHE is 'of'; give off, or an absolute path"):
        turn_on({"S5WM_CACHE": "of"})


def test_the_folder_is_the_user_s_alone(tmp_path: Path, uninstalled: None) -> None:
    root = tmp_path / "cache" / FOLDER
    turn_on({"XDG_CACHE_HOME": str(tmp_path / "cache")})
    (folder,) = root.iterdir()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (root, folder))
    root.chmod(0o755)
    turn_on({"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.parametrize("how", ["writable", "link"])
def test_a_folder_that_another_may_have_written_to_is_not_used(
    tmp_path: Path, uninstalled: None, how: str
) -> None:
    root = tmp_path / FOLDER
    if how == "link":
        (tmp_path / "elsewhere").mkdir()
        root.symlink_to(tmp_path / "elsewhere")
    else:
        root.mkdir()
        root.chmod(0o770)
    state = turn_on({"S5WM_CACHE": str(tmp_path)})
    assert state.folder is None
    assert "compiled programs are code" in state.reason


def test_nothing_beside_its_own_folder_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that a user names may hold anything: it keeps its mode and its files."""
    installed: list[ProgramCache] = []
    monkeypatch.setattr(compilecache, "_install", lambda cache: installed.append(cache))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_bytes(b"x" * 100)
    os.utime(tmp_path / "mine" / "thesis", (1, 1))
    tmp_path.chmod(0o755)
    turn_on({"S5WM_CACHE": str(tmp_path)})
    (cache,) = installed
    monkeypatch.setattr(cache, "_limit", 40)
    for name in ("first", "second"):
        cache.put(name, b"")
    assert entries(cache) == ["second"]  # the bound holds: 32 bytes each
    assert (tmp_path / "mine" / "thesis").exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", FOLDER]


def test_what_decides_machine_code_decides_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = machine({"HOME": "/a"})
    assert machine({"HOME": "/b"}) == plain
    assert machine({"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}) != plain
    assert machine({"JAX_ENABLE_X64": "1"}) != plain
    monkeypatch.setattr(compilecache, "cpu_flags", lambda: "avx2")
    assert machine({"HOME": "/a"}) != plain
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5, 6})
    assert machine({"HOME": "/a"}) != plain


TINY = [
    *("train.num_envs=4", "train.rollout_length=8", "train.iterations_per_chunk=2", "train.eval_episodes=2"),
    *("task.steps=10", "agent.units=4", "agent.layers=1", "agent.epochs=1", "agent.minibatches=2"),
]

CLOCK = ("minutes", "wall_minutes", "env_steps_per_s", "updates_per_s", "eta_minutes", "time/")


@pytest.mark.slow
def test_a_training_out_of_the_cache_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """With an empty one, and with that filled, of which one entry is damaged."""
    kept = tmp_path / "cache"

    def train(name: str, switch: str) -> tuple[list[dict[str, float]], dict[str, np.ndarray]]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        path = os.pathsep.join(p for p in sys.path if p)
        environ = own | ROUGH | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "S5WM_CACHE": switch}
        command = [sys.executable, "-m", "s5wm", "train", "toy/double-integrator", "--agent", "ppo"]
        options = [word for item in TINY for word in ("--override", item)]
        command += ["--run", str(tmp_path / name), "--env-steps", "128", *options]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        lasting = [{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows]
        with np.load(tmp_path / name / "best" / "policy.npz", allow_pickle=False) as stored:
            return lasting, dict(stored)

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in kept.glob("*/*/*")}

    def size(path: Path) -> int:
        return path.stat().st_size

    cold = train("cold", str(kept))
    compiled = written()
    assert any("iterate_all" in name for name in compiled)
    damaged = min((path for path in kept.glob("*/*/*") if "iterate_all" not in path.name), key=size)
    broken = damaged.read_bytes()[:-1] + b"?"
    damaged.write_bytes(broken)
    warm = train("warm", str(kept))
    again = written()
    assert again.keys() == compiled.keys()
    del again[damaged.name], compiled[damaged.name]
    assert again == compiled  # nothing else was compiled
    assert damaged.read_bytes() != broken
    assert warm[0] == cold[0] and warm[1].keys() == cold[1].keys()
    for name, value in warm[1].items():
        np.testing.assert_array_equal(value, cold[1][name])
