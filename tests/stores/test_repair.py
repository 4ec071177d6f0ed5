"""Repairing: only what is damaged is written again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.toy import FACTS, Toy, begin, fill, tree, write
from umecache.stores import StoreDamaged, StoreIncomplete, StoreMismatch, open_store
from umecache.stores.repair import reopen, writer_arguments
from umecache.stores.verify import verify


@pytest.fixture
def toy() -> Toy:
    return Toy.make()


def test_reopened_stores_are_unfinished(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    (tmp_path / "s/tokens/c/2/0").write_bytes(b"")
    reopen(tmp_path / "s")
    with pytest.raises(StoreIncomplete, match="3 of 4 shards"):
        open_store(tmp_path / "s")
    write(tmp_path / "s", toy)  # the command that made it, run again, does the rest
    assert tree(tmp_path / "s") == before


def test_the_arguments_are_those_that_made_it(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy, dtype="int8", files={"a/b": b"1"}, compression="zstd")
    arguments = writer_arguments(open_store(tmp_path / "s"))
    assert list(arguments["ids"]) == toy.ids
    assert arguments["lengths"].tolist() == toy.lengths, "planned lengths, also of inputs that failed"
    assert arguments["failures"] == toy.missing
    assert arguments["files"] == {"a/b": b"1"}
    assert (arguments["dtype"], arguments["compression"]) == ("int8", "zstd")
    again = begin(tmp_path / "t", toy, **arguments)
    assert (
        again.plan.facts()
        == begin(tmp_path / "s", toy, dtype="int8", files={"a/b": b"1"}, compression="zstd").plan.facts()
    )


@pytest.mark.parametrize("name", ["manifest.json", "ids/c/0", "digest/c/0/0", "length/c/0", "length/zarr.json"])
def test_a_store_that_forgot_its_inputs(tmp_path: Path, toy: Toy, name: str) -> None:
    write(tmp_path / "s", toy)
    data = (tmp_path / "s" / name).read_bytes()
    (tmp_path / "s" / name).write_bytes(data[:8] + b"\x09" + data[9:] if name.endswith("0") else b"{}")
    before = tree(tmp_path / "s")
    with pytest.raises(StoreDamaged, match=r"can't tell any more.*rm -r"):
        reopen(tmp_path / "s")
    assert tree(tmp_path / "s") == before


@pytest.mark.parametrize("name", ["start/c/0", "zarr.json", "tokens/zarr.json", "CHECKSUMS", "receipts/000001.json"])
def test_metadata_is_written_anew(tmp_path: Path, toy: Toy, name: str) -> None:
    write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    data = before[name]
    at = data.index(b"umecache") if name == "zarr.json" else max(data.find(b"attributes"), 8)
    (tmp_path / "s" / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert not verify(tmp_path / "s").ok
    writer = reopen(tmp_path / "s")
    for shard in writer.claim():
        assert shard.index == 1
        fill(shard, toy)
    writer.seal()
    assert tree(tmp_path / "s") == before


def test_a_repair_by_another_version_keeps_both(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    (tmp_path / "s/tokens/c/2/0").unlink()
    later = {**FACTS, "origin": {"library": "numpy", "batch_size": 8}}
    writer = begin(tmp_path / "s", toy, manifest=later, redo=verify(tmp_path / "s").shards)
    for shard in writer.claim():
        fill(shard, toy)
    facts = writer.seal()
    assert facts["origin"] == FACTS["origin"]
    assert facts["other_origins"] == [later["origin"]]


def test_another_recipe_repairs_nothing(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    with pytest.raises(StoreMismatch, match="recipe"):
        begin(tmp_path / "s", toy, manifest={**FACTS, "recipe": {"layers": "-2"}}, redo=[0])
    assert tree(tmp_path / "s") == before
