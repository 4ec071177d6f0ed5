"""Stores read from where they are: lists at once, shards when their first record is asked for.

    store = open_store("s3://bucket/vit-1a2b3c4d/val")     # a path opens as ever
    store[store.ids[0]]                                    # brings one shard
    open_splits("hf://datasets/ORG/NAME", ("train", "val"))

What comes is checked as by a pull and kept in a bounded cache (`cache.py`), where any number of processes share it. The
line may break: each object is tried several times and goes on at its byte; then one error says so, and what has
arrived is there for the next run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.errors import UsageError
from umecache.home import cache_home
from umecache.reporting import Reporter, Silent
from umecache.sharing.cache import POLL, USED, Cache, size_of_cache
from umecache.sharing.fetch import JOBS, Progress, Wanted, fetch_all, patiently
from umecache.sharing.listing import Listing, find_remote_stores, has, read_checksums, read_listing
from umecache.sharing.remotes import open_remote
from umecache.sharing.urls import private, url_below
from umecache.stores import reader
from umecache.stores.claims import Claims
from umecache.stores.commit import CHECKSUMS
from umecache.stores.errors import StoreDamaged, StoreMismatch, StoreMissing
from umecache.stores.files import WORK, inside, size_of

TOUCH = 30.0  # seconds; how exactly it is known when a shard was last used
GROUP = 16  # shards that one process claims at a time


def is_remote(place: str | Path) -> bool:
    """Whether a store is named by a URL; `file://` means this machine."""
    text = str(place)
    return "://" in text and not text.startswith("file://")


def open_store(
    place: str | Path,
    *,
    cache: str | Path | None = None,
    cache_bytes: int | None = None,
    reporter: Reporter | None = None,
) -> reader.Store:
    """Open a finished store for reading, wherever it is.

    Args:
        place: a folder (or an HDF5 file, or a Zarr group), or a URL as `umecache store pull` takes it.
        cache: where what is read from a URL is kept; None: `UMECACHE_CACHE`, or `cache/` in `UMECACHE_HOME`.
        cache_bytes: what may be kept there; None: `UMECACHE_CACHE_SIZE`, or 20 GB.
        reporter: is told of long transfers.

    Raises:
        StoreMissing: no store is there.
        StoreIncomplete: it is still being written; says how far.
        StoreDamaged: files are missing, cut short, malformed, or not what the store's CHECKSUMS lists.
        RemoteFailed: the other side can't be reached, or broke off.
        CacheFull: a single shard is more than the cache may hold.
    """
    if not is_remote(place):
        return reader.open_store(place)
    return RemoteStore(str(place), "", _cache(cache, cache_bytes), reporter)


def located(place: str, split: str | None = None) -> str | Path:
    """A place that was written down or said: a URL stays one, all else is a path.

    Args:
        split: take the split's own store, where the place is a folder of several.
    """
    if is_remote(place):
        return place if split is None else open_splits(place, (split,))[split].said
    path = Path(place).expanduser()
    return path / split if split is not None and (path / split).exists() else path


def open_splits(url: str, splits: Sequence[str], *, reporter: Reporter | None = None) -> dict[str, RemoteStore]:
    """The store of each split at a URL: one store that is there itself, or one of a folder of stores.

    Raises:
        StoreMissing: a split has none.
        UsageError: a split has several.
        UmecacheError: as `open_store`.
    """
    remote, cache = open_remote(url), _cache(None, None)
    if patiently(lambda: has(remote, CHECKSUMS)):
        return dict.fromkeys(splits, RemoteStore(url, "", cache, reporter))
    names = patiently(lambda: find_remote_stores(remote, splits))
    if len(names) > len(splits):
        raise UsageError(
            f"{remote.url} has several stores of a split: {', '.join(names)}.",
            next=f"Name the folder of one model: {remote.url}/{names[0].rpartition('/')[0]}",
        )
    found = {name: RemoteStore(url, name, cache, reporter) for name in names}
    chosen = {}
    for split in splits:
        of_split = [each for name, each in found.items() if split in (each.split, name.split("/")[-1])]
        if not of_split:
            raise StoreMissing(f"{remote.url} has no store of the split {split!r}.", why=f"It has: {', '.join(names)}.")
        chosen[split] = of_split[0]
    return chosen


def _cache(folder: str | Path | None, size: int | None) -> Cache:
    place = cache_home() if folder is None else Path(folder).expanduser()
    return Cache(place, size_of_cache() if size is None else size)


class RemoteStore(reader.Store):
    """A store whose shards come when they are first needed; made by `open_store`.

    `path` is where its lists lie on this machine, `place` its URL as it may be written down, `said` with its secrets.

    Args:
        url: as it was said.
        name: the folder of the store below it; "" for the URL itself.
    """

    def __init__(self, url: str, name: str, cache: Cache, reporter: Reporter | None = None) -> None:
        self._opened, self._reporter = (url, name), reporter or Silent()
        self.said = url_below(private(url), name)
        self._shards = _Shards(url, name, cache)
        super().__init__(self._shards.folder, supply=self._shards, place=self._shards.remote.url)
        self.split = self._shards.listing.split

    def __reduce__(self) -> tuple[Any, ...]:
        cache = self._shards.cache
        return _reopen, (*self._opened, str(cache.folder.absolute()), cache.limit, self.fingerprint)

    def bring(self, rows: NDArray[np.int64]) -> None:
        """Have the shards of these positions here, side by side; none, if the cache can't hold them all.

        Raises:
            UmecacheError: as reading.
        """
        rows = rows[self.lengths[rows] > 0]
        shards = np.unique(self.starts[rows] // self.manifest["layout"]["shard_rows"]).tolist()
        missing = self._shards.size(k for k in shards if not self._shards.holds(k))
        size, limit = self._shards.size(shards), self._shards.cache.limit
        if size > limit:
            self._reporter.say(
                f"note: {self.place}: {size / 1e9:,.1f} GB are read, {limit / 1e9:,.1f} GB may be kept here, so they "
                "come again whenever they are read: UMECACHE_CACHE_SIZE=50GB, or umecache store pull"
            )
        elif missing:
            with self._reporter.task(f"fetch {self.place.rpartition('/')[2]}", missing / 1e6, "MB") as task:
                self._shards.need(shards, Progress(task), room=limit)


def _reopen(url: str, name: str, cache: str, limit: int, fingerprint: str) -> RemoteStore:
    store = RemoteStore(url, name, Cache(Path(cache), limit))
    if store.fingerprint != fingerprint:
        raise StoreMismatch(f"{store.place} is not the store it was when its reader was sent to this process.")
    return store


class _Shards:
    """The `Supply` of a store read from afar."""

    def __init__(self, url: str, name: str, cache: Cache) -> None:
        self._url, self._name, self.cache = url, name, cache
        self.remote = open_remote(url).below(name)
        checksums = patiently(lambda: read_checksums(self.remote))
        self.folder = cache.entry(checksums)
        self._process, self._claims = os.getpid(), Claims(self.folder / WORK / "claims")
        self.listing: Listing = patiently(lambda: read_listing(self.remote, self.folder, checksums))
        self._files = [
            [(inside(self.folder, part["path"]), part["bytes"]) for part in shard["files"]]
            for shard in self.listing.manifest["layout"]["shards"]
        ]
        self._used: dict[int, float] = {}
        self._bring_lists()

    def _bring_lists(self) -> None:
        """What is read at once: ids, places, metadata; one process fetches them, others wait."""
        small = self.listing.wanted(self.listing.small())
        paths = [inside(self.folder, each.name) for each in small]
        while any(size_of(path) is None for path in paths):
            with self._turn(["lists"]) as mine:
                if mine:
                    self._fetch(small, _unseen())
        self.cache.make_room(0, paths)

    def holds(self, shard: int) -> bool:
        return all(size_of(path) == size for path, size in self._files[shard])

    def size(self, shards: Iterable[int]) -> int:
        """Bytes of these shards."""
        return sum(size for k in shards for _, size in self._files[k])

    def use(self, shards: Iterable[int]) -> None:
        now = time.monotonic()
        for k in shards:
            if now - self._used.get(k, -TOUCH) >= TOUCH:
                self._used[k] = now
                for path, _ in self._files[k]:
                    _touch(path)
                _touch(self.folder / USED)

    def need(self, shards: Iterable[int], progress: Progress | None = None, *, room: int | None = None) -> None:
        # Half the cache at a time, so that the shards of two modalities don't drive each other out.
        limit = self.cache.limit // 2 if room is None else room
        missing = self._first([k for k in shards if not self.holds(k)], limit)
        if not missing:
            return
        if os.getpid() != self._process:  # neither connections nor the threads of claims survive a fork
            self.remote = open_remote(self._url).below(self._name)
            self._process, self._claims = os.getpid(), Claims(self.folder / WORK / "claims")
        self.cache.entry(self.listing.checksums)  # in use, and there again should it have been unused for long
        while missing:
            with self._turn([f"{k:06d}" for k in missing]) as mine:
                # Another process may have brought some of them between our look and our claim.
                turn = [k for k in map(int, mine) if not self.holds(k)]
                if turn:
                    self.cache.make_room(self.size(turn), [path for k in turn for path, _ in self._files[k]])
                    names = [name for k in turn for name in self.listing.shard(k)]
                    self._fetch(self.listing.wanted(names), progress or _unseen())
            arrived = set(map(int, mine))
            missing = [k for k in missing if k not in arrived and not self.holds(k)]

    def _first(self, shards: Sequence[int], room: int) -> Sequence[int]:
        """As many of them as have room together; one in any case."""
        total, fit = 0, 0
        for k in shards:
            total += self.size([k])
            if fit and total > room:
                break
            fit += 1
        return shards[:fit]

    @contextmanager
    def _turn(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Those of the names that are ours to fetch now; waits a moment where others, or other threads, have all."""
        current, mine = self._claims.current(), []
        try:
            for name in names:
                claim = self._claims.acquire(name, current)
                if claim is not None:
                    mine.append(claim)
                if len(mine) == GROUP:
                    break
            if not mine:
                time.sleep(POLL)
            yield [claim.name for claim in mine]
        finally:
            for claim in mine:
                self._claims.release(claim)

    def _fetch(self, wanted: Sequence[Wanted], progress: Progress) -> None:
        try:
            fetch_all(self.remote, wanted, self.folder, progress, JOBS)
        except StoreDamaged as error:
            if read_checksums(self.remote) != self.listing.checksums:
                raise StoreMismatch(
                    f"{self.remote.url} was changed while it was read.",
                    why="It is another version of the store by now.",
                    next="Open it again: the same command reads the new version.",
                ) from error
            raise


def _unseen() -> Progress:
    return Progress(Silent().task("", None))


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:  # let go meanwhile, or another user's: only the order of what goes depends on it
        return
