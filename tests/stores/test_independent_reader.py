"""A second reader, written from docs/store-format.md with plain zarr-python and h5py alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tests.stores.toy import Toy, write
from umecache.stores import open_store


class PlainReader:
    """Forty lines that need none of our code."""

    def __init__(self, path: Path) -> None:
        self.manifest = json.loads((path / "manifest.json").read_text())
        assert self.manifest["format_version"] == 1
        for shard in self.manifest["layout"]["shards"]:  # HDF5 would read a missing shard as zeros
            for part in shard["files"]:
                assert (path / part["path"]).stat().st_size == part["bytes"]
        if self.manifest["format"] == "zarr":
            group = zarr.open_group(path, mode="r")
            self.arrays: dict[str, Any] = dict(group.arrays())
            names = self.arrays["ids"][:]
        else:
            self.arrays = dict(h5py.File(path / "index.h5").items())
            ids = self.arrays["ids"]
            names = ids.asstr()[:] if self.manifest["id_type"] == "string" else ids[:]
        self.position = {name: i for i, name in enumerate(names.tolist())}
        self.failures = {row["id"]: row["reason"] for row in self.manifest["failures"]}

    def __getitem__(self, name: int | str) -> np.ndarray:
        i = self.position[name]
        start, length = int(self.arrays["start"][i]), int(self.arrays["length"][i])
        rows = slice(start, start + length)
        stored = self.arrays["tokens"][rows]
        if self.manifest["dtype"] == "bfloat16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        if self.manifest["dtype"] == "int8":
            return stored * self.arrays["scale"][rows][:, None] + self.arrays["exact"][rows]
        return stored


class Spiky(Toy):
    """Two tokens with one value far out of scale."""

    def encode(self, content: int) -> np.ndarray:
        values = super().encode(content).copy()
        if content in (1, 4):
            values[1, 7] = 3000
        return values


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16", "int8"])
@pytest.mark.parametrize("strings", [False, True])
def test_it_reads_what_ours_reads(tmp_path: Path, format: str, dtype: str, strings: bool) -> None:
    toy = Toy.make(strings=strings)
    write(tmp_path / "s", toy, format=format, dtype=dtype)
    plain, ours = PlainReader(tmp_path / "s"), open_store(tmp_path / "s")
    assert plain.failures == ours.failures
    for name in toy.ids:
        assert np.array_equal(plain[name], ours[name])


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_outliers(tmp_path: Path, format: str) -> None:
    toy = Spiky(list(range(6)), list(range(6)), dict.fromkeys(range(6), 3), 300)
    facts = write(tmp_path / "s", toy, format=format, dtype="int8", shard_records=2)
    assert facts["outlier_tokens"] == 2
    plain, ours = PlainReader(tmp_path / "s"), open_store(tmp_path / "s")
    for name in toy.ids:
        assert np.array_equal(plain[name], ours[name])
        assert np.abs(ours[name] - toy.encode(name)).max() <= 0.04
    assert np.array_equal(ours[4][1], toy.encode(4)[1]), "exactly"
    assert np.array_equal(ours.batch([4, 5])[0][0], ours[4])


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_documented_byte_positions(tmp_path: Path, format: str) -> None:
    toy = Toy.make(missing=0)
    write(tmp_path / "s", toy, format=format)
    manifest = json.loads((tmp_path / "s/manifest.json").read_text())
    receipt = json.loads((tmp_path / "s/receipts/000001.json").read_text())
    file = tmp_path / "s" / receipt["files"][0]["path"]
    base = 0
    if format == "hdf5":
        with h5py.File(file) as opened:
            base = opened["tokens"].id.get_offset()
    raw, row, by_id = file.read_bytes(), 0, dict(zip(toy.ids, range(len(toy.ids)), strict=True))
    assert receipt["start"] == manifest["layout"]["shard_rows"]
    for name, tokens in zip(receipt["ids"], receipt["tokens"], strict=True):
        expected = toy.expected(by_id[name])
        if expected is not None:
            at = base + row * toy.dim * 2
            assert raw[at : at + tokens * toy.dim * 2] == expected.astype("<f2").tobytes()
        row += tokens
    assert row == receipt["rows"]
