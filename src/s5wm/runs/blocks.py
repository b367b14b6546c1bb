"""Large arrays on disk as blocks, so that a save writes only the blocks that have changed.

A pack is one file of blocks; an index says, for each array, in which pack each of its blocks lies and what its SHA-256
is.  Packs are never changed, so that an older index stays readable, and are removed when no index names them.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s5wm.errors import CorruptError

SIZE = 2**16
"""Bytes of a block: small against a replay, large against its line in the index."""


class Block(NamedTuple):
    """Location and hash of a block."""

    pack: str
    offset: int
    size: int
    sha256: str


Index = dict[str, list[Block]]


class BlockStore:
    """A folder of packs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, stem: str, arrays: dict[str, NDArray[Any]], parent: Index | None) -> Index:
        """Write the blocks that ``parent`` does not have into a pack of their own."""
        known = {block.sha256: block for block in _blocks(parent or {})}
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self._fresh(stem)
        partial = self.folder / f"{name}.partial"
        index: Index = {}
        for stale in self.folder.glob("*.partial"):  # of a process that was killed
            stale.unlink(missing_ok=True)
        try:
            with partial.open("wb") as file:
                for key, array in arrays.items():
                    index[key] = [_put(piece, known, name, file) for piece in _pieces(array)]
                empty = file.tell() == 0
            if not empty:
                os.replace(partial, self.folder / name)
        finally:
            partial.unlink(missing_ok=True)  # on a full disk it would hold the last free bytes
        return index

    def read(self, blocks: list[Block], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """One array of an index that has been verified."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if sum(block.size for block in blocks) != size:
            raise CorruptError(f"blocks in {self.folder} do not add up to the {size} bytes of their array")
        content, begin = np.empty(size, np.uint8), 0
        for block in blocks:
            content[begin : begin + block.size] = np.frombuffer(self._content(block), np.uint8)
            begin += block.size
        return content.view(dtype).reshape(shape)

    def verify(self, index: Index) -> None:
        """Raises ``CorruptError`` unless every block of ``index`` is what was written."""
        for block in sorted(set(_blocks(index))):
            if hashlib.sha256(self._content(block)).hexdigest() != block.sha256:
                raise CorruptError(f"{self.folder / block.pack} has changed since it was written (SHA-256)")

    def is_worth_building_on(self, index: Index) -> bool:
        """Whether all packs of ``index`` are there, and it names at least half of their bytes."""
        live = sum(block.size for block in set(_blocks(index)))
        packs = [self.folder / name for name in {block.pack for block in _blocks(index)}]
        return all(pack.is_file() for pack in packs) and sum(p.stat().st_size for p in packs) <= 2 * live

    def prune(self, kept: Iterable[Index]) -> None:
        """Remove every pack that no index names."""
        named = {block.pack for index in kept for block in _blocks(index)}
        for path in self.folder.glob("*"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _fresh(self, stem: str) -> str:
        taken = {path.name for path in self.folder.glob(f"{stem}-*")}
        return next(name for n in range(len(taken) + 1) if (name := f"{stem}-{n}.pack") not in taken)

    def _content(self, block: Block) -> bytes:
        path = self.folder / block.pack
        try:
            with path.open("rb") as file:
                file.seek(block.offset)
                content = file.read(block.size)
        except OSError as error:
            raise CorruptError(f"cannot read {path}: {error.strerror or error}") from error
        if len(content) != block.size:
            raise CorruptError(f"{path} is shorter than it was written")
        return content


def decode_index(data: Any, path: Path) -> Index:
    """Decode an index from JSON."""
    try:
        index = {name: [Block(*block) for block in blocks] for name, blocks in data.items()}
        wrong = [block for block in _blocks(index) if not _is_sound(block)]
    except (AttributeError, TypeError) as error:
        raise CorruptError(f"{path} is not an index of blocks: {error}") from error
    if wrong:
        raise CorruptError(f"{path} names a block that cannot be: {wrong[0]}")
    return index


def _is_sound(block: Block) -> bool:
    # A name with a slash would lead out of the folder.
    return Path(block.pack).name == block.pack and block.offset >= 0 and 0 < block.size <= SIZE


def _blocks(index: Index) -> Iterator[Block]:
    return (block for blocks in index.values() for block in blocks)


def _pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return (content[begin : begin + SIZE] for begin in range(0, len(content), SIZE))


def _put(piece: memoryview, known: dict[str, Block], pack: str, file: Any) -> Block:
    digest = hashlib.sha256(piece).hexdigest()
    if digest not in known:
        known[digest] = Block(pack, file.tell(), len(piece), digest)
        file.write(piece)
    return known[digest]
