"""Sealing: from plan and receipts alone, and only what belongs to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.toy import Toy, begin, fill, tree, write
from umecache.stores import StoreError
from umecache.stores.receipts import Failure, read_receipt
from umecache.stores.seal import outcome


def test_it_needs_every_shard(tmp_path: Path) -> None:
    toy = Toy.make()
    writer = begin(tmp_path / "s", toy)
    claimed = writer.claim()
    fill(next(claimed), toy)
    with pytest.raises(StoreError, match="3 of 4 shards are not done"):
        writer.seal()


def test_strangers_are_refused_and_leftovers_removed(tmp_path: Path) -> None:
    toy = Toy.make()
    write(tmp_path / "whole", toy)
    writer = begin(tmp_path / "s", toy)
    for shard in writer.claim():
        fill(shard, toy)
    stray = tmp_path / "s/tokens/c/9/0"  # renamed, but its process never signed for it
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    note = tmp_path / "s/notes.txt"
    note.write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt is no file of this store"):
        writer.seal()
    assert note.read_text() == "mine"
    note.unlink()
    writer.seal()
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_failures_reach_every_id_that_shares_the_input(tmp_path: Path) -> None:
    toy = Toy.make()
    writer = begin(tmp_path / "s", toy)
    for shard in writer.claim():
        fill(shard, toy)
    receipts = [read_receipt(tmp_path / "s", k) for k in range(writer.shards)]
    assert [f for r in receipts for f in r.failures] == [Failure(3, "not an image", "ab" * 32)]
    length, failures = outcome(writer.plan, receipts)
    assert [row["id"] for row in failures] == toy.failed
    assert [(row["reason"], row["tokens"] > 0) for row in failures] == [
        ("no such file", False) if i in toy.missing else ("not an image", True)
        for i, name in enumerate(toy.ids)
        if name in toy.failed
    ]
    assert length.tolist() == [0 if name in toy.failed else toy.lengths[i] for i, name in enumerate(toy.ids)]
