"""Space on the disk: what is needed, what is free, what is refused."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from umecache.errors import JobFailed
from umecache.extraction import space
from umecache.extraction.space import INDEX_BYTES, bytes_to_write, check_space, free_bytes
from umecache.stores import Writer, open_writer

Usage = namedtuple("Usage", "total used free")


def _writer(path: Path) -> Writer:
    """Four records of 5 x 8 float16 in two shards: 320 bytes."""
    digests = [f"{n:064x}" for n in range(4)]
    facts = {"recipe": {}}
    return open_writer(path, manifest=facts, ids=range(4), digests=digests, lengths=[5] * 4, dim=8, shard_records=2)


def test_finished_shards_need_no_room(tmp_path: Path) -> None:
    writer = _writer(tmp_path / "s")
    whole = 4 * 5 * 8 * 2 + 4 * INDEX_BYTES
    assert bytes_to_write(writer) == whole
    shard = writer.take(0)
    assert shard is not None
    with shard:
        for position in shard.records:
            shard.write(position, np.zeros((5, 8), np.float32))
    assert bytes_to_write(writer) == whole // 2


def test_stores_that_do_not_fit_are_refused_unless_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers = [_writer(tmp_path / "a"), _writer(tmp_path / "b")]
    needed = sum(map(bytes_to_write, writers))
    for free in (needed - 1, needed):
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _, free=free: Usage(10**9, 0, free))
        check_space(writers[:1])  # each fits alone
        if free < needed:
            with pytest.raises(JobFailed, match="GB more") as caught:
                check_space(writers)
            assert "--ignore-space" in caught.value.next
            check_space(writers, ignore=True)
        else:
            check_space(writers)


def test_free_bytes_of_a_folder_to_be(tmp_path: Path) -> None:
    there = shutil.disk_usage(tmp_path).free
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(there, rel=0.2)
