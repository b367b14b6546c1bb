"""Checkpoints that somebody made to hurt: their checksums are right, their contents are not."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.errors import ConfigError, CorruptError
from s5wm.runs import checkpoint as module
from s5wm.runs import orbax
from s5wm.runs.blocks import Block, BlockStore, decode_index
from s5wm.runs.checkpoint import Checkpoints, restore
from s5wm.runs.files import write_manifest
from s5wm.runs.orbax import restore_small

STATE = {"a": jnp.arange(6, dtype=jnp.float32), "large": jnp.arange(100_000, dtype=jnp.float32)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(1, STATE, {"env_steps": 1}, {"w": jnp.ones(3)})
    checkpoints.wait()
    return checkpoints.path(1)


def shapes() -> Any:
    return jax.eval_shape(lambda: STATE)


def rewrite(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
    (path.parent / "manifest.json").unlink()
    write_manifest(path.parent)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["tree.json", "host.json", "blocks.json", "about.json"])
def test_a_pickle_in_place_of_any_file_is_not_run(saved: Path, tmp_path: Path, name: str) -> None:
    (saved / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    (saved / "manifest.json").unlink()
    write_manifest(saved)
    with pytest.raises(CorruptError):
        restore(saved, shapes())
    assert not (tmp_path / "exploded").exists()


def test_sizes_are_compared_with_the_configuration_before_anything_is_allocated(saved: Path) -> None:
    tree = json.loads((saved / "tree.json").read_text())
    rewrite(saved / "tree.json", tree | {"large": "float32[1000000000000]"})
    with pytest.raises(
        CorruptError, match=r"first large: float32\[1000000000000\] stored, float32\[100000\]"
    ):
        restore(saved, shapes())


def test_an_index_that_adds_up_to_more_than_its_array_is_refused(saved: Path) -> None:
    index = json.loads((saved / "blocks.json").read_text())
    rewrite(saved / "blocks.json", index | {"large": index["large"] * 1000})
    with pytest.raises(CorruptError, match="do not add up to the 400000 bytes"):
        restore(saved, shapes())


@pytest.mark.parametrize(
    "block",
    [
        ["../../etc/passwd", 0, 10, "x"],
        ["x.pack", -1, 10, "x"],
        ["x.pack", 0, 10**12, "x"],
        ["x.pack", 0, "ten", "x"],
        ["x.pack"],
        3,
    ],
    ids=str,
)
def test_blocks_that_cannot_be_are_refused(block: Any) -> None:
    with pytest.raises(CorruptError):
        decode_index({"a": [block]}, Path("blocks.json"))


def test_an_array_without_blocks_is_missed(saved: Path) -> None:
    index = json.loads((saved / "blocks.json").read_text())
    rewrite(saved / "blocks.json", {"large": index["large"]})
    with pytest.raises(CorruptError, match=r"blocks\.json does not say where a is"):
        restore(saved, shapes())


LISTED = {"a": jax.ShapeDtypeStruct((6,), np.float32)}


def in_orbax(folder: Path, held: Any) -> Path:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), {"float32": held})
    return folder


@pytest.mark.parametrize(
    "held", [np.zeros(10**7, np.float32), np.zeros(3, np.float32), np.zeros(6, np.float64)]
)
def test_arrays_in_orbax_that_are_not_those_listed_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: Any
) -> None:
    import orbax.checkpoint as ocp

    folder = in_orbax(tmp_path / "state", held)
    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", lambda *_: pytest.fail("read"))
    with pytest.raises(CorruptError, match=r"float32 is float\d\d\[\d+\], not float32\[6\]"):
        restore_small(folder, LISTED, 5)


def test_a_pickle_in_place_of_a_file_of_orbax_is_not_run(tmp_path: Path) -> None:
    folder = in_orbax(tmp_path / "state", np.zeros(6, np.float32))
    (folder / "_METADATA").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(CorruptError):
        restore_small(folder, LISTED, 5)
    assert not (tmp_path / "exploded").exists()


def test_without_orbax_an_older_checkpoint_says_what_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orbax, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"earlier version of s5wm, with Orbax: pip install 's5wm\[orbax\]'"
    ):
        restore_small(tmp_path / "state", LISTED, 5)


@pytest.mark.parametrize("name", ["tree.json", "about.json"])
def test_a_list_in_place_of_a_table_is_refused(saved: Path, name: str) -> None:
    rewrite(saved / name, ["a"])
    with pytest.raises(CorruptError, match=f"{name} is not a table"):
        restore(saved, shapes())


def test_blocks_of_an_array_that_is_not_listed_are_refused(saved: Path) -> None:
    index = json.loads((saved / "blocks.json").read_text())
    rewrite(saved / "blocks.json", index | {"other": index["large"]})
    with pytest.raises(CorruptError, match=r"names other, which tree\.json does not"):
        restore(saved, shapes())


def test_an_unknown_schema_is_refused(saved: Path) -> None:
    rewrite(saved / "about.json", {"schema": 99})
    with pytest.raises(CorruptError, match="schema 99; this version of s5wm reads 1 to 7"):
        restore(saved, shapes())


def test_a_save_writes_what_has_changed_and_neighbours_share_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    checkpoints = Checkpoints(tmp_path, keep=3)
    large = rng.normal(size=1_000_000).astype(np.float32)
    sizes: list[int] = []
    for step in range(1, 6):
        large[step * 1000 : step * 1000 + 1000] += 1.0
        before = set((tmp_path / "blocks").glob("*"))
        checkpoints.save(step, STATE | {"large": jnp.asarray(large)}, {}, {"w": jnp.ones(3)})
        checkpoints.wait()
        sizes.append(sum(p.stat().st_size for p in set((tmp_path / "blocks").glob("*")) - before))
    assert sizes[:2] == [4_000_000 + 24] * 2
    assert max(sizes[2:]) <= 2 * 2**16
    one, other = (module._index(checkpoints.path(step)) for step in (4, 5))
    assert not {b.pack for b in one["large"]} & {b.pack for b in other["large"]}
    state, _ = restore(checkpoints.path(5), jax.eval_shape(lambda: STATE | {"large": jnp.asarray(large)}))
    np.testing.assert_array_equal(state["large"], large)


def test_damage_to_any_pack_costs_one_checkpoint_of_two(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in range(1, 5):
        checkpoints.save(step, STATE | {"large": STATE["large"] + step}, {}, {"w": jnp.ones(3)})
        checkpoints.wait()
    for pack in (tmp_path / "blocks").glob("*.pack"):
        whole = pack.read_bytes()
        pack.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        newest = checkpoints.newest(lambda _: None)
        assert newest in (checkpoints.path(4), checkpoints.path(3))
        pack.write_bytes(whole)


def test_packs_go_when_nothing_names_them_and_grow_no_further_than_twice_what_lives(tmp_path: Path) -> None:
    packs, rng = BlockStore(tmp_path), np.random.default_rng(0)
    index = packs.write("1", {"x": rng.normal(size=100_000)}, None)
    for step in range(2, 30):
        parent = index if packs.is_worth_building_on(index) else None
        index = packs.write(str(step), {"x": rng.normal(size=100_000)}, parent)
        packs.prune([index])
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 3 * 800_000
    packs.verify(index)
    (tmp_path / Block(*index["x"][0]).pack).unlink()
    with pytest.raises(CorruptError, match="cannot read"):
        packs.verify(index)


def test_a_copy_of_a_run_elsewhere_is_as_good(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved.parent, tmp_path / "elsewhere" / "checkpoints")
    moved = Checkpoints(tmp_path / "elsewhere" / "checkpoints", keep=1)
    path = moved.newest(pytest.fail)
    assert path is not None
    np.testing.assert_array_equal(restore(path, shapes())[0]["large"], STATE["large"])
