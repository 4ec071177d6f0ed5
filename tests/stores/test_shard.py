"""One shard: all of it or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.toy import Toy, begin, fill, tree, write
from umecache.stores import StoreError, StoreWriteFailed
from umecache.stores.receipts import read_receipt
from umecache.stores.shard import ShardWriter


@pytest.fixture
def toy() -> Toy:
    return Toy.make(broken=0, missing=0)


@pytest.fixture
def shard(tmp_path: Path, toy: Toy) -> Iterator[ShardWriter]:
    claimed = begin(tmp_path / "s", toy).claim()  # to let go of it is to give the shard back
    yield next(claimed)
    claimed.close()


def test_records_are_the_plan_s(shard: ShardWriter) -> None:
    assert shard.index == 0
    assert shard.records == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((1, 5), np.float32), "has shape"),
        (np.zeros((9, 6), np.float32), "has shape"),
        (np.zeros(6, np.float32), "has shape"),
        (np.zeros((1, 6), np.float64), "not float64"),
        (np.zeros((1, 6), np.int8), "not int8"),
    ],
)
def test_wrong_values_are_refused(shard: ShardWriter, values: np.ndarray, message: str) -> None:
    with pytest.raises(StoreError, match=message), shard:
        shard.write(0, values)


def test_wrong_positions_are_refused(shard: ShardWriter, toy: Toy) -> None:
    with pytest.raises(StoreError, match="use `with shard:`"):
        shard.write(0, toy.encode(0))
    with pytest.raises(StoreError, match="lacks 3 records"), shard:
        shard.write(0, toy.encode(0))
        with pytest.raises(StoreError, match="can't fail now"):
            shard.fail(0, "no")
        with pytest.raises(StoreError, match="not one of shard 0's records"):
            shard.write(7, toy.encode(7))  # of another shard
        shard.fail(1, "broken")
        with pytest.raises(StoreError, match="can't be written now"):
            shard.write(1, toy.encode(1))
    with pytest.raises(StoreError, match="given back"), shard:
        pass


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_repeated_records_are_harmless(tmp_path: Path, toy: Toy, dtype: str) -> None:
    """A distributed sampler pads its last batch with records that it has given already."""
    write(tmp_path / "whole", toy, dtype=dtype)
    writer = begin(tmp_path / "s", toy, dtype=dtype)
    for shard in writer.claim():
        with shard:
            for position in [*shard.records, *shard.records[:2]]:
                shard.write(position, toy.encode(toy.content[position]))
            with pytest.raises(StoreError, match="Two different records"):
                shard.write(shard.records[0], toy.encode(toy.content[shard.records[0]]) + 1)
    writer.seal()
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_nothing_of_a_broken_shard_remains(tmp_path: Path, toy: Toy) -> None:
    writer = begin(tmp_path / "s", toy)
    before = set(tree(tmp_path / "s"))
    claimed = writer.claim()
    shard = next(claimed)
    with pytest.raises(KeyboardInterrupt), shard:
        shard.write(0, toy.encode(0))
        raise KeyboardInterrupt
    assert set(tree(tmp_path / "s")) == before
    assert next(claimed).index == 0, "it is free again"
    claimed.close()
    assert set(tree(tmp_path / "s")) == before


def test_a_value_out_of_range_names_the_id(shard: ShardWriter, toy: Toy) -> None:
    values = toy.encode(0)
    values[0, 0] = 1e6
    with pytest.raises(StoreWriteFailed, match=rf"id {toy.ids[0]} reach 1e\+06"), shard:
        shard.write(0, values)


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_a_full_disk(tmp_path: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    write(tmp_path / "whole", toy, format=format)
    writer = begin(tmp_path / "s", toy, format=format)
    real, left = os.pwrite, [14]

    def fills_up(fd: int, data: Any, at: int) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", fills_up)
    with pytest.raises(StoreWriteFailed) as caught:
        for shard in writer.claim():
            fill(shard, toy)
    assert "The disk is full." in caught.value.what
    done = begin(tmp_path / "s", toy, format=format).done
    assert done in (1, 2)
    assert caught.value.why == f"{done} of 4 shards are finished and safe; nothing partial remains."
    assert "run the same command again" in caught.value.next
    monkeypatch.setattr(os, "pwrite", real)
    write(tmp_path / "s", toy, format=format)
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_short_writes(tmp_path: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    write(tmp_path / "whole", toy, format=format)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[: max(1, len(data) // 2)]), at))
    write(tmp_path / "s", toy, format=format)
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_one_that_was_thought_dead_gives_way(tmp_path: Path, toy: Toy) -> None:
    """Its shard is taken over while it is still writing: whoever commits, the bytes are the same."""
    write(tmp_path / "whole", toy)
    writer = begin(tmp_path / "s", toy)
    claimed = writer.claim()
    slow = next(claimed)
    with slow:
        claim = slow._claim
        (claim.path.parent / f"{claim.name}.1").write_text("{}")  # the next generation: another process's claim
        for position in slow.records:
            slow.write(position, toy.encode(toy.content[position]))
    assert begin(tmp_path / "s", toy).done == 0, "it has not committed"
    (claim.path.parent / f"{claim.name}.1").unlink()
    write(tmp_path / "s", toy)
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_leftovers_of_a_dead_owner_are_cleared(tmp_path: Path, toy: Toy) -> None:
    writer = begin(tmp_path / "s", toy)
    left = tmp_path / "s/.writing/tmp/000000-deadbeef"
    left.mkdir()
    (left / "tokens").write_bytes(b"half")
    claimed = writer.claim()
    fill(next(claimed), toy)
    assert not left.exists()


def test_failures_are_in_the_receipt(shard: ShardWriter, toy: Toy, tmp_path: Path) -> None:
    with shard:
        for position in shard.records:
            if position == 2:
                shard.fail(position, "cut short", "cd" * 32)
            else:
                shard.write(position, toy.encode(position))
    receipt = read_receipt(tmp_path / "s", 0)
    assert [(f.record, f.reason, f.sha256) for f in receipt.failures] == [(2, "cut short", "cd" * 32)]
    assert receipt.crc32c[2] is None
