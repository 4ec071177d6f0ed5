"""The Zarr format keeps the contract, and its bytes are what the specification says."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr

from tests.stores.contract import StoreContract
from tests.stores.toy import Toy, write
from umecache.stores import StoreDamaged, open_store
from umecache.stores.zarr_format import read_index


class TestZarrStore(StoreContract):
    format = "zarr"
    compression = "zstd"

    def by_library(self, path: Path) -> dict[str, Any]:
        group = zarr.open_group(path, mode="r")
        return {name: array[:] for name, array in group.arrays()}

    def foreign(self, folder: Path, arrays: dict[str, Any]) -> Path:
        # Unsharded, compressed, chunks that know nothing of records.
        group = zarr.open_group(folder / "foreign", mode="w")
        tokens = group.create_array("tokens", shape=arrays["tokens"].shape, chunks=(7, 4), dtype="float16")
        tokens[:] = arrays["tokens"]
        for name in ("ids", "start", "length"):
            group.create_array(name, shape=arrays[name].shape, chunks=(5,), dtype="int64")[:] = arrays[name]
        return folder / "foreign"


def test_rows_lie_at_their_byte_positions(tmp_path: Path) -> None:
    toy = Toy.make(broken=1)
    write(tmp_path / "s", toy)
    store = open_store(tmp_path / "s")
    layout = store.manifest["layout"]
    for i in range(len(toy.ids)):
        expected = toy.expected(i)
        if expected is None:
            continue
        shard, row = divmod(int(store.starts[i]), layout["shard_rows"])
        raw = (tmp_path / "s" / f"tokens/c/{shard}/0").read_bytes()
        size = toy.dim * 2
        assert raw[row * size : row * size + expected.size * 2] == expected.astype("<f2").tobytes()


def test_unused_tail_and_failed_records_are_absent_chunks(tmp_path: Path) -> None:
    toy = Toy.make(ids=7, distinct=7, ragged=False, missing=0, broken=1)
    write(tmp_path / "s", toy, shard_records=5)
    layout = open_store(tmp_path / "s").manifest["layout"]
    assert layout["chunk_rows"] == 5
    assert layout["shard_rows"] == 25
    for k, present in ((0, [True, True, True, False, True]), (1, [True, True, False, False, False])):
        file = tmp_path / "s" / f"tokens/c/{k}/0"
        index = read_index(np.frombuffer(file.read_bytes(), np.uint8), 5, file)
        assert (index[:, 0] >= 0).tolist() == present
    assert (tmp_path / "s/tokens/c/1/0").stat().st_size == 2 * 5 * toy.dim * 2 + 5 * 16 + 4


def test_group_lists_its_members_without_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "s", Toy.make())
    group = zarr.open_group(tmp_path / "s", mode="r")  # warnings are errors here
    assert sorted(name for name, _ in group.members()) == ["digest", "ids", "length", "start", "tokens"]


@pytest.mark.parametrize("sharded", [False, True])
def test_plain_zarr_layouts_are_mapped(tmp_path: Path, sharded: bool) -> None:
    values = np.arange(24 * 3, dtype=np.float32).reshape(24, 3)
    group = zarr.open_group(tmp_path / "g", mode="w")
    options: dict[str, Any] = {"shards": (12, 3), "chunks": (2, 3)} if sharded else {"chunks": (12, 3)}
    group.create_array("tokens", shape=(24, 3), dtype="float32", compressors=None, **options)[:] = values
    for name, data in (("ids", [7, 8, 9]), ("start", [0, 4, 12]), ("length", [4, 8, 6])):
        group.create_array(name, shape=(3,), dtype="int64", compressors=None)[:] = np.array(data)
    store = open_store(tmp_path / "g")
    assert np.array_equal(store[8], values[4:12])
    assert np.array_equal(store[9], values[12:18])
    assert not store[8].flags.owndata


def test_missing_shard_of_a_foreign_store_is_no_zeros(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("tokens", shape=(24, 3), chunks=(2, 3), shards=(12, 3), dtype="float32", compressors=None)[:] = 1
    for name, data in (("ids", [7, 8]), ("start", [0, 12]), ("length", [4, 6])):
        group.create_array(name, shape=(2,), dtype="int64", compressors=None)[:] = np.array(data)
    (tmp_path / "g/tokens/c/1/0").unlink()
    store = open_store(tmp_path / "g")
    assert store[7].all()
    with pytest.raises(StoreDamaged, match="missing"):
        store[8]


def test_digests_that_are_cut_short(tmp_path: Path) -> None:
    write(tmp_path / "s", Toy.make())
    file = tmp_path / "s/digest/c/0/0"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreDamaged, match="cut short"):
        _ = open_store(tmp_path / "s").digests


def _index(rows: list[tuple[int, int]]) -> bytes:
    raw = struct.pack(f"<{2 * len(rows)}Q", *(value for row in rows for value in row))
    return raw + struct.pack("<I", google_crc32c.value(raw))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 100), (2**63, 2**63)], "outside the file"),
        ([(0, 2**64 - 2), (0, 1)], "outside the file"),
        ([(60, 100), (0, 1)], "outside the file"),
    ],
)
def test_index_that_points_outside(rows: list[tuple[int, int]], message: str, tmp_path: Path) -> None:
    data = bytes(32) + _index(rows)
    with pytest.raises(StoreDamaged, match=message):
        read_index(np.frombuffer(data, np.uint8), 2, tmp_path)


def test_index_checksum_and_size(tmp_path: Path) -> None:
    data = bytearray(bytes(32) + _index([(0, 16), (16, 16)]))
    assert read_index(np.frombuffer(data, np.uint8), 2, tmp_path).tolist() == [[0, 16], [16, 16]]
    with pytest.raises(StoreDamaged, match="cut short"):
        read_index(np.frombuffer(data, np.uint8), 10**15, tmp_path)
    data[-6] ^= 1
    with pytest.raises(StoreDamaged, match="checksum"):
        read_index(np.frombuffer(data, np.uint8), 2, tmp_path)
