import random
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.errors import CorruptError, DivergedError, WriteError
from s5wm.runs.checkpoint import Checkpoints, restore

STATE = {
    "a": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
    "b": (jnp.array([True, False]), jnp.asarray(7, jnp.int32)),
    "key": jr.key(5),
    "nothing": None,
    "image": jnp.full((2, 4), 200, jnp.uint8),
    "half": jnp.asarray([1.5, -2.0], jnp.bfloat16),
    "empty": jnp.zeros((0, 3), jnp.int8),
}
POLICY = {"w": jnp.ones((3,))}


def shapes(tree: object) -> object:
    return jax.eval_shape(lambda: tree)


def save(folder: Path, *steps: int, keep: int = 3) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, STATE, {"env_steps": step}, POLICY)
        checkpoints.wait()
    return checkpoints


def test_what_is_restored_is_bitwise_what_was_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 10).newest(pytest.fail)
    assert path is not None
    state, host = restore(path, shapes(STATE))
    assert host == {"env_steps": 10}
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    for new, old in zip(jax.tree.leaves(state), jax.tree.leaves(STATE), strict=True):
        assert new.dtype == old.dtype
        assert not getattr(new, "weak_type", False)
        if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
            new, old = jr.key_data(new), jr.key_data(old)
        np.testing.assert_array_equal(new, old)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    assert save(tmp_path, 1, 2, 3, 4, 100, keep=3).steps() == [3, 4, 100]


def damage(file: Path, kind: str) -> None:
    content = bytearray(file.read_bytes())
    match kind:
        case "flip":
            index = random.Random(len(content)).randrange(len(content))
            content[index] ^= 4
            file.write_bytes(content)
        case "truncate":
            file.write_bytes(content[: len(content) // 2])
        case "empty":
            file.write_bytes(b"")
        case "delete":
            file.unlink()


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["flip", "truncate", "empty", "delete"])
def test_damage_to_any_file_is_found_and_the_one_before_is_taken(tmp_path: Path, kind: str) -> None:
    checkpoints = save(tmp_path, 1)
    before = files(tmp_path)
    save(tmp_path, 2)
    count = len(files(tmp_path) - before)
    assert count >= 8  # a pack of blocks among them
    for index in range(count):
        save(tmp_path, 2)
        file = sorted(files(tmp_path) - before)[index]
        if file.stat().st_size == 0 and kind != "delete":
            continue
        damage(file, kind)
        said: list[str] = []
        assert checkpoints.newest(said.append) == checkpoints.path(1), file
        assert len(said) == 1
        assert "2 is damaged" in said[0]


def save_next(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, STATE | {"a": STATE["a"] + step}, {"env_steps": step}, POLICY)
        checkpoints.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="a file that is there and cannot be read is one of /proc")
@pytest.mark.parametrize("name", ["host.json", "manifest.json", "blocks"])
def test_a_file_that_the_disk_does_not_give_is_damage_and_the_one_before_is_taken(
    tmp_path: Path, name: str
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    save_next(checkpoints, 1, 2)
    file = (
        next((tmp_path / "blocks").glob("000000000002-*")) if name == "blocks" else checkpoints.path(2) / name
    )
    file.unlink()
    file.symlink_to("/proc/self/mem")  # its first byte is an input/output error
    said: list[str] = []
    assert Checkpoints(tmp_path, keep=2).newest(said.append) == checkpoints.path(1)
    assert "checkpoint 2 is damaged (cannot read" in said[0] and "Input/output error" in said[0]


def test_saves_go_on_after_damage_and_only_sound_ones_count_as_kept(tmp_path: Path) -> None:
    save_next(Checkpoints(tmp_path, keep=2), 100, 200, 250)
    damage(tmp_path / "000000000250" / "tree.json", "flip")
    again = Checkpoints(tmp_path, keep=2)
    assert again.newest(lambda _: None) == again.path(200)
    save_next(again, 400)
    assert again.steps() == [200, 250, 400]  # two that are sound
    save_next(again, 600, 800)
    assert again.steps() == [600, 800]
    again.verify(600)
    again.verify(800)


def test_an_unreadable_index_of_an_older_checkpoint_does_not_fail_a_save(tmp_path: Path) -> None:
    save_next(Checkpoints(tmp_path, keep=3), 1, 2, 3)
    damage(tmp_path / "000000000002" / "blocks.json", "empty")
    again = Checkpoints(tmp_path, keep=3)
    assert again.newest(pytest.fail) == again.path(3)
    save_next(again, 4)
    assert again.newest(pytest.fail) == again.path(4)


def test_a_save_does_not_build_on_packs_that_are_gone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    save_next(checkpoints, 1, 2)
    for pack in (tmp_path / "blocks").iterdir():
        pack.unlink()
    save_next(checkpoints, 3)
    checkpoints.verify(3)


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = save(tmp_path, 1)
    before = files(tmp_path)
    (tmp_path / "blocks" / "of-a-killed-process.pack.partial").write_bytes(bytes(100))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("s5wm.runs.blocks._put", full)
        with pytest.raises(WriteError, match="No space left on device"):
            save_next(checkpoints, 2)
    assert files(tmp_path) == before
    save_next(checkpoints, 3)
    assert checkpoints.newest(pytest.fail) == checkpoints.path(3)


@pytest.mark.parametrize("name", ["blocks.json", "about.json", "manifest.json"])
def test_a_save_that_fails_after_its_pack_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    checkpoints = save(tmp_path, 1)
    before = files(tmp_path)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(f"{name}."):  # the temporary one, of this process
            raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for step in (2, 3):
            with pytest.raises(WriteError, match="No space left on device"):
                save_next(checkpoints, step)
    assert files(tmp_path) == before
    save_next(checkpoints, 4)
    checkpoints.verify(1)
    checkpoints.verify(4)


def test_a_save_that_fails_keeps_the_packs_of_an_index_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    save_next(checkpoints, 1, 2)
    index = checkpoints.path(2) / "blocks.json"
    index.rename(tmp_path / "aside")
    index.symlink_to("/proc/self/mem")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(WriteError):
            save_next(checkpoints, 3)
    (tmp_path / "aside").replace(index)
    checkpoints.verify(2)


def test_a_checkpoint_half_written_is_not_seen(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1)
    (tmp_path / "partial-000000000002").mkdir()
    assert checkpoints.newest(pytest.fail) == checkpoints.path(1)
    assert save(tmp_path, 2).steps() == [1, 2]


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, 1).path(1)
    other = dict(STATE, a=jnp.zeros((2, 4)))
    with pytest.raises(CorruptError, match=r"1 arrays differ, first a: float32\[2, 3\] stored"):
        restore(path, shapes(other))
    with pytest.raises(CorruptError, match="another configuration"):
        restore(path, shapes({"a": STATE["a"]}))


def test_a_policy_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1)
    with pytest.raises(DivergedError, match="w is not finite"):
        checkpoints.save(2, STATE, {}, {"w": jnp.array([jnp.nan])})
        checkpoints.wait()
    assert checkpoints.steps() == [1]
    assert not list(tmp_path.glob("partial*"))


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write the checkpoint"):
        save(tmp_path / "file", 1)
