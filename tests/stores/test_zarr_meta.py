"""Zarr metadata: what a feature store can need is read, everything else refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tests.stores.toy import Toy, write
from umecache.stores import StoreDamaged
from umecache.stores.zarr_meta import read_array, read_vector, stored_strings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "s", Toy.make(strings=True))
    return tmp_path / "s"


def edit(path: Path, name: str, *keys: str | int, value: Any) -> None:
    file = path / name / "zarr.json"
    document = json.loads(file.read_text())
    at = document
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    file.write_text(json.dumps(document))


def test_our_own_arrays(path: Path) -> None:
    tokens = read_array(path, "tokens", dimensions=2)
    assert tokens.fast
    assert (tokens.dtype, tokens.codec, tokens.index_at_end) == ("float16", "raw", True)
    assert tokens.key(3) == "c/3/0"
    assert not read_array(path, "ids", dimensions=1).fast
    assert stored_strings(path, "ids") == Toy.make(strings=True).ids
    assert not read_vector(path, "start").flags.owndata


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["zarr_format"], 2),
        (["node_type"], "group"),
        (["shape"], [10]),
        (["shape"], [-1, 6]),
        (["shape"], [2**63, 6]),
        (["shape"], [1.5, 6]),
        (["shape"], "24"),
        (["data_type"], "object"),
        (["data_type"], {"name": "numpy.datetime64"}),
        (["chunk_grid", "name"], "rectilinear"),
        (["chunk_grid", "configuration", "chunk_shape"], [0, 6]),
        (["chunk_grid", "configuration"], None),
        (["chunk_key_encoding", "name"], "v2"),
        (["chunk_key_encoding", "configuration", "separator"], "../"),
        (["codecs", 0, "name"], "numcodecs.pickle"),
        (["codecs", 0, "configuration", "codecs", 0, "name"], "numcodecs.pickle"),
        (["codecs", 0, "configuration", "chunk_shape"], [0, 0]),
        (["codecs", 0, "configuration", "index_codecs"], None),
        (["codecs"], [[]]),
        (["codecs"], []),
        (["storage_transformers"], [{"name": "x"}]),
    ],
    ids=str,
)
def test_anything_else_is_refused(path: Path, keys: list[Any], value: Any) -> None:
    edit(path, "tokens", *keys, value=value)
    if keys == ["codecs"] and value == []:
        assert not read_array(path, "tokens", dimensions=2).fast  # odd, but the library may try
        return
    with pytest.raises(StoreDamaged, match="tokens"):
        read_array(path, "tokens", dimensions=2)


def test_nested_shards_are_refused(path: Path) -> None:
    document = json.loads((path / "tokens/zarr.json").read_text())
    shard = document["codecs"][0]
    for _ in range(3):
        shard = {"name": "sharding_indexed", "configuration": {**shard["configuration"], "codecs": [shard]}}
    edit(path, "tokens", "codecs", value=[shard])
    with pytest.raises(StoreDamaged, match="shards within shards"):
        read_array(path, "tokens", dimensions=2)


def test_vectors_of_any_layout(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    values = np.arange(11)
    group.create_array("a", shape=(11,), chunks=(4,), dtype="int64")[:] = values
    group.create_array("b", shape=(11,), chunks=(11,), dtype="int32", compressors=None)[:] = values
    group.create_array("c", shape=(11,), chunks=(11,), dtype="float32")[:] = values
    assert read_vector(tmp_path / "g", "a").tolist() == values.tolist()
    assert read_vector(tmp_path / "g", "b").dtype == np.int64
    with pytest.raises(StoreDamaged, match="int64 is needed"):
        read_vector(tmp_path / "g", "c")


def test_string_lists_are_bounded_by_their_file(path: Path) -> None:
    file = path / "ids/c/0"
    data = file.read_bytes()
    for changed in (
        data[:-1],
        data[:3],
        b"",
        b"\xff\xff\xff\x7f" + data[4:],
        data[:4] + b"\xff\xff\xff\x7f" + data[8:],
        data[:8] + b"\xff" + data[9:],
    ):
        file.write_bytes(changed)
        with pytest.raises(StoreDamaged):
            stored_strings(path, "ids")


def test_strings_of_other_layouts(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    names = np.array(["a", "bé", "c" * 40], dtype=object)
    group.create_array("ids", shape=(3,), chunks=(2,), dtype=str)[:] = names
    assert stored_strings(tmp_path / "g", "ids") == list(names)
