"""A bounded part of the disk: what was used longest ago goes, nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.stores.toy import Toy, tree, write
from umecache.errors import UsageError
from umecache.sharing import cache as module
from umecache.sharing.cache import USED, Cache, CacheFull, size_of_cache
from umecache.stores.claims import Claims
from umecache.stores.files import WORK


def size(folder: Path) -> int:
    return sum(len(data) for data in tree(folder).values())


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """A store of seven shards in a cache; shard k was used at second 1000 + k."""
    folder = Cache(tmp_path / "cache", 0).entry(b"one")
    write(tmp_path / "whole", Toy.make(ids=40, distinct=32, dim=64))
    for name, data in tree(tmp_path / "whole").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        if name.startswith("tokens/c/"):
            used = 1000 + int(name.split("/")[2])
            os.utime(folder / name, (used, used))
    return folder


def shards(entry: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in entry.glob("tokens/c/*/0"))


@pytest.mark.parametrize(
    ("text", "found"), [("50GB", 50e9), ("1.5 tb", 1.5e12), ("300M", 300e6), ("1234", 1234), ("", 20e9)]
)
def test_sizes(text: str, found: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMECACHE_CACHE_SIZE", text)
    assert size_of_cache() == found


def test_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMECACHE_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="'much' is no size"):
        size_of_cache()


def test_the_oldest_shards_go_first(entry: Path) -> None:
    whole, shard = size(entry), (entry / "tokens/c/0/0").stat().st_size
    cache = Cache(entry.parent, whole)
    cache.make_room(0)
    assert shards(entry) == [0, 1, 2, 3, 4, 5, 6]
    cache.make_room(shard)
    assert shards(entry) == [1, 2, 3, 4, 5, 6]
    os.utime(entry / "tokens/c/1/0")  # used just now
    cache.make_room(2 * shard)
    assert 1 in shards(entry)
    assert size(entry) + 2 * shard <= whole


def test_lists_and_what_is_to_stay_stay(entry: Path) -> None:
    spare = [entry / "tokens/c/0/0", entry / "tokens/c/3/0"]
    cache = Cache(entry.parent, 1000)
    with pytest.raises(CacheFull, match=r"may hold 0\.0 MB; .* are needed at once") as caught:
        cache.make_room(10, spare)
    assert "UMECACHE_CACHE_SIZE=" in caught.value.next
    assert shards(entry) == [0, 3]
    assert (entry / "ids/c/0").exists()


def test_a_store_that_nobody_read_for_long_goes_as_a_whole(entry: Path) -> None:
    cache = Cache(entry.parent, 1000)
    other = cache.entry(b"two")
    long_ago = time.time() - 2 * module.IDLE
    os.utime(entry / USED, (long_ago, long_ago))
    claim = Claims(entry / WORK / "claims").acquire("lists")
    assert claim is not None
    with pytest.raises(CacheFull):  # somebody is at it
        cache.make_room(0)
    Claims(entry / WORK / "claims").release(claim)
    cache.make_room(0)
    assert [path.name for path in entry.parent.iterdir()] == [other.name]


def test_half_a_file_is_kept_for_whoever_goes_on_with_it(entry: Path) -> None:
    half = entry / WORK / "parts/abc"
    half.parent.mkdir()
    half.write_bytes(b"x" * 5000)
    cache = Cache(entry.parent, size(entry) - 1)
    cache.make_room(0)
    assert half.exists()
    os.utime(half, (1, 1))
    Cache(entry.parent, size(entry) - 1).make_room(0)
    assert not half.exists()


def test_what_others_fetch_just_now_is_no_reason_to_give_up(entry: Path) -> None:
    half = entry / WORK / "parts/abc"
    half.parent.mkdir()
    half.write_bytes(b"x" * 50_000)
    lists = sum(len(data) for name, data in tree(entry).items() if not name.startswith(("tokens/c/", WORK)))
    Cache(entry.parent, lists + 100).make_room(100)
    assert half.exists()
    with pytest.raises(CacheFull):
        Cache(entry.parent, lists + 100).make_room(101)


def test_two_at_once_delete_no_more_than_needed(entry: Path) -> None:
    whole, shard = size(entry), (entry / "tokens/c/0/0").stat().st_size
    for _ in range(2):  # what the other one removed counts
        Cache(entry.parent, whole).make_room(shard)
    assert shards(entry) == [1, 2, 3, 4, 5, 6]


def test_an_empty_cache(tmp_path: Path) -> None:
    Cache(tmp_path / "nowhere", 10).make_room(10)
    with pytest.raises(CacheFull):
        Cache(tmp_path / "nowhere", 10).make_room(11)
    assert not (tmp_path / "nowhere").exists()
