"""Reading through the libraries: right, bounded, and every failure one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs.zstd import Zstd

from tests.stores.toy import Toy, write
from umecache.stores import StoreDamaged, StoreMismatch, open_store
from umecache.stores.foreign import blame, frame_size, justify, zarr_rows


def test_frame_sizes_are_those_that_zstd_declares() -> None:
    for size in (0, 1, 100, 255, 256, 257, 65_791, 65_792, 1_000_000):
        assert frame_size(Zstd(level=3).encode(bytes(size))[:18]) == (size if size else 0)
    assert frame_size(b"") is None
    assert frame_size(b"not zstd at all") is None
    assert frame_size(b"\x28\xb5\x2f\xfd\x00\x58") is None  # a frame that hides its size


def test_blame_turns_anything_into_damage(tmp_path: Path) -> None:
    for error in (KeyError("x"), RuntimeError("y"), MemoryError(), OSError("z"), AssertionError()):
        with pytest.raises(StoreDamaged, match=type(error).__name__), blame(tmp_path):
            raise error
    with pytest.raises(StoreMismatch), blame(tmp_path):
        raise StoreMismatch("as it is")


def test_claims_beyond_the_files_are_refused(tmp_path: Path) -> None:
    justify(1 << 20, 10, tmp_path)
    with pytest.raises(StoreDamaged, match="claims"):
        justify(1 << 40, 1 << 20, tmp_path)


def test_a_decompression_bomb_is_not_set_off(tmp_path: Path) -> None:
    toy = Toy.make(ids=4, distinct=4, ragged=False, broken=0, missing=0)
    write(tmp_path / "s", toy, compression="zstd")
    file = tmp_path / "s/tokens/c/0/0"
    data = bytearray(file.read_bytes())
    offset, size = struct.unpack_from("<2Q", data, len(data) - 4 - 4 * 16)
    bomb = Zstd(level=3).encode(bytes(1 << 24))
    assert len(bomb) > size
    data[offset : offset + size] = bomb[:size]
    file.write_bytes(data)
    with pytest.raises(StoreDamaged, match="doesn't decompress to 60 bytes"):
        open_store(tmp_path / "s")[toy.ids[0]]


def test_huge_foreign_arrays_of_small_files(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("tokens", shape=(1 << 40, 768), chunks=(64, 768), dtype="float16")
    for name, data in (("ids", [1]), ("start", [0]), ("length", [1 << 39])):
        group.create_array(name, shape=(1,), dtype="int64")[:] = np.array(data)
    store = open_store(tmp_path / "g")
    with pytest.raises(StoreDamaged, match="claims"):
        store[1]
    with pytest.raises(StoreDamaged, match="claims"):
        store.batch([1])


def test_huge_chunks(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "g", mode="w").create_array(
        "tokens", shape=(1 << 40, 768), chunks=(1 << 30, 768), dtype="f2"
    )
    with pytest.raises(StoreDamaged, match="claims"):
        zarr_rows(tmp_path / "g", "tokens")
