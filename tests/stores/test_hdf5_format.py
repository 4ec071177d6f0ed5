"""The HDF5 format keeps the contract, and h5py sees what the specification says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.stores.contract import StoreContract
from tests.stores.toy import Toy, write
from umecache.stores import StoreDamaged, open_store


class TestHdf5Store(StoreContract):
    format = "hdf5"
    compression = "gzip"

    def by_library(self, path: Path) -> dict[str, Any]:
        with h5py.File(path / "index.h5") as file:
            arrays = {name: data[:] for name, data in file.items() if name != "ids"}
            arrays["ids"] = file["ids"].asstr()[:] if file["ids"].dtype.kind == "S" else file["ids"][:]
        return arrays

    def foreign(self, folder: Path, arrays: dict[str, Any]) -> Path:
        with h5py.File(folder / "foreign.h5", "w") as file:
            file.create_dataset("tokens", data=arrays["tokens"], chunks=(7, 4), compression="lzf")
            for name in ("ids", "start", "length"):
                file.create_dataset(name, data=arrays[name], chunks=(5,), compression="gzip")
        return folder / "foreign.h5"


def test_shards_are_contiguous_and_aligned(tmp_path: Path) -> None:
    toy = Toy.make()
    write(tmp_path / "s", toy, format="hdf5")
    store = open_store(tmp_path / "s")
    rows = store.manifest["layout"]["shard_rows"]
    with h5py.File(tmp_path / "s/shards/000001.h5") as file:
        tokens = file["tokens"]
        offset = tokens.id.get_offset()
        assert offset % 4096 == 0
    raw = (tmp_path / "s/shards/000001.h5").read_bytes()
    position = 6
    row = int(store.starts[position]) - rows
    expected = toy.encode(position).astype("<f2").tobytes()
    assert raw[offset + row * toy.dim * 2 :][: len(expected)] == expected


def test_virtual_dataset_finds_its_shards_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy.make(missing=0)
    write(tmp_path / "s", toy, format="hdf5")
    (tmp_path / "s").rename(tmp_path / "t")
    monkeypatch.chdir("/")
    with h5py.File(tmp_path / "t/index.h5") as file:
        start, length = file["start"][0], file["length"][0]
        assert np.array_equal(file["tokens"][start : start + length], toy.encode(0))


def test_hdf5_itself_reads_a_missing_shard_as_zeros_but_we_do_not(tmp_path: Path) -> None:
    toy = Toy.make(missing=0)
    write(tmp_path / "s", toy, format="hdf5")
    (tmp_path / "s/shards/000000.h5").unlink()
    with h5py.File(tmp_path / "s/index.h5") as file:
        assert not file["tokens"][: file["length"][0]].any()
    with pytest.raises(StoreDamaged, match="missing"):
        open_store(tmp_path / "s")
    # The same when a copy of the index alone is opened as a foreign file.
    (tmp_path / "copy.h5").write_bytes((tmp_path / "s/index.h5").read_bytes())
    with pytest.raises(StoreDamaged, match="missing"):
        open_store(tmp_path / "copy.h5")[toy.ids[0]]


def test_the_index_file_names_the_store(tmp_path: Path) -> None:
    write(tmp_path / "s", Toy.make(), format="hdf5")
    assert open_store(tmp_path / "s/index.h5").fingerprint == open_store(tmp_path / "s").fingerprint


@pytest.mark.parametrize("layout", ["contiguous", "chunk-per-record", "odd chunks", "big-endian"])
def test_plain_h5py_files(tmp_path: Path, layout: str) -> None:
    values = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    options: dict[str, Any] = {
        "contiguous": {},
        "chunk-per-record": {"chunks": (6, 3)},
        "odd chunks": {"chunks": (5, 2)},
        "big-endian": {"dtype": ">f4"},
    }[layout]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("tokens", data=values, **options)
        file["ids"], file["start"], file["length"] = [7, 8, 9], [0, 6, 18], [6, 12, 6]
    store = open_store(tmp_path / "f.h5")
    for name, start, stop in ((7, 0, 6), (8, 6, 18), (9, 18, 24)):
        assert np.array_equal(store[name], values[start:stop])
    if layout in ("contiguous", "chunk-per-record"):
        assert not store[7].flags.owndata


def test_string_ids_of_any_kind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["tokens"] = np.ones((4, 2), np.float16)
        file["start"], file["length"] = [0, 2], [2, 2]
        file["ids"] = ["ä", "b"]  # variable length
    assert open_store(tmp_path / "f.h5")["ä"].shape == (2, 2)


def _hostile(tmp_path: Path, change: Any) -> Path:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["tokens"] = np.ones((4, 2), np.float16)
        file["start"], file["length"], file["ids"] = [0, 2], [2, 2], [1, 2]
        change(file)
    return tmp_path / "f.h5"


def _external_link(file: Any) -> None:
    del file["start"]
    file["start"] = h5py.ExternalLink("/etc/passwd", "x")


def _external_storage(file: Any) -> None:
    del file["tokens"]
    file.create_dataset("tokens", shape=(4, 2), dtype="f2", external=[("/etc/passwd", 0, 16)])


def _virtual_escape(file: Any) -> None:
    del file["tokens"]
    layout = h5py.VirtualLayout((4, 2), "f2")
    layout[:] = h5py.VirtualSource("../../../etc/x.h5", "tokens", (4, 2))
    file.create_virtual_dataset("tokens", layout)


def _huge(file: Any) -> None:
    del file["tokens"]
    file.create_dataset("tokens", shape=(1 << 40, 768), chunks=(1, 768), dtype="f2")
    del file["length"]
    file["length"] = [1 << 39, 2]


def _huge_vector(file: Any) -> None:
    del file["start"]
    file.create_dataset("start", shape=(1 << 40,), chunks=(1024,), dtype="i8")


@pytest.mark.parametrize(
    "change", [_external_link, _external_storage, _virtual_escape, _huge, _huge_vector], ids=lambda f: f.__name__[1:]
)
def test_hostile_files(tmp_path: Path, change: Any) -> None:
    path = _hostile(tmp_path, change)
    with pytest.raises(StoreDamaged):
        store = open_store(path)
        store[1]
