"""A bounded part of this disk for what is read from afar.

    cache = Cache(cache_home(), size_of_cache())
    folder = cache.entry(checksums)          # FOLDER/SHA256 of the store's CHECKSUMS, laid out as the store itself
    cache.make_room(50_000_000, spare=[...]) # what was used longest ago goes

A name says what lies below it: one version of one store, from wherever it came, each file compared with CHECKSUMS
before it got its name. So two processes, or two URLs of one store, share what arrived, and nothing in here goes stale.
What is let go is unlinked: whoever has it mapped reads on, and its bytes are free when they stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from umecache.errors import JobFailed, UsageError
from umecache.sharing.fetch import PARTS
from umecache.stores.claims import Claims
from umecache.stores.commit import telling
from umecache.stores.errors import StoreError
from umecache.stores.files import WORK, make_dirs
from umecache.stores.manifest import read_manifest

SIZE = 20_000_000_000
"""Bytes, where `UMECACHE_CACHE_SIZE` says nothing."""

IDLE = 3600.0  # seconds after which half a file counts as abandoned, and the lists of a store as unused
POLL = 0.05  # seconds between two looks at what another process fetches
USED = f"{WORK}/used"  # its time is when the store was last read
HALVES = Path(PARTS).name

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", re.IGNORECASE)


def size_of_cache() -> int:
    """What `UMECACHE_CACHE_SIZE` says ("50GB"), in bytes.

    Raises:
        UsageError: it says no size.
    """
    text = os.environ.get("UMECACHE_CACHE_SIZE")
    if not text:
        return SIZE
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"UMECACHE_CACHE_SIZE={text!r} is no size.", next="UMECACHE_CACHE_SIZE=50GB")
    return int(float(found[1]) * 1000 ** ("", "k", "m", "g", "t").index(found[2].lower()))


class CacheFull(JobFailed):
    """What is needed at once is more than the cache may hold."""


@dataclass(frozen=True, slots=True)
class _File:
    used: float
    size: int
    path: Path


class Cache:
    """See the module.

    Args:
        folder: made when it is first needed.
        limit: bytes, all in all; others may be at work too, so it is exceeded by what they fetch just then.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._shards: dict[Path, frozenset[Path]] = {}  # entry -> files that may go one by one

    def entry(self, checksums: bytes) -> Path:
        """The folder of the store with this CHECKSUMS.

        Raises:
            StoreWriteFailed: it can't be made.
        """
        folder = self.folder.absolute() / hashlib.sha256(checksums).hexdigest()
        with telling(folder, "the first files", ["Nothing was written yet."]):
            make_dirs(folder / WORK / "claims")
            (folder / USED).touch()
        return folder

    def make_room(self, n: int, spare: Collection[Path] = ()) -> None:
        """Let go of what was used longest ago, until `n` more bytes may come.

        Args:
            spare: files that are to stay.

        Raises:
            CacheFull: what must stay leaves too little room.
        """
        kept, total, moving = set(spare), 0, 0
        for find in (self._single, self._idle):
            total, moving, loose = find()
            for each in sorted(loose, key=lambda file: file.used):
                if total + n <= self.limit:
                    return
                if each.path not in kept:
                    _remove(each.path)
                    total -= each.size
        total -= moving  # others are at it: what they need now is not what stays
        if total + n > self.limit:
            raise CacheFull(
                f"{self.folder} may hold {self.limit / 1e6:,.1f} MB; {(total + n) / 1e6:,.1f} MB are needed at once.",
                next=f"UMECACHE_CACHE_SIZE={math.ceil((total + n) * 2 / 1e6)}MB, or umecache store pull URL",
            )

    def _entries(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [each for each in self.folder.absolute().iterdir() if each.is_dir()]
        return []

    def _single(self) -> tuple[int, int, list[_File]]:
        """Bytes of everything, those under way, and files that may go one by one: shards, and halves that were left."""
        total, moving, loose, now = 0, 0, [], time.time()
        for entry in self._entries():
            shards = self._shard_files(entry)
            for file in _files(entry):
                total += file.size
                half = file.path.parent.name == HALVES
                if file.path in shards or (half and now - file.used > IDLE):
                    loose.append(file)
                elif half:
                    moving += file.size
        return total, moving, loose

    def _idle(self) -> tuple[int, int, list[_File]]:
        """Bytes of everything, those under way, and the stores that nobody has read for a while."""
        total, moving, loose = 0, 0, []
        for entry in self._entries():
            files = list(_files(entry))
            size = sum(file.size for file in files)
            total += size
            moving += sum(file.size for file in files if file.path.parent.name == HALVES)
            try:
                used = (entry / USED).stat().st_mtime
            except OSError:
                used = 0.0
            if time.time() - used > IDLE and not Claims(entry / WORK / "claims").live(IDLE):
                loose.append(_File(used, size, entry))
        return total, moving, loose

    def _shard_files(self, entry: Path) -> frozenset[Path]:
        if entry not in self._shards:
            try:
                layout = read_manifest(entry)["layout"]
            except StoreError:  # not there yet
                return frozenset()
            self._shards[entry] = frozenset(entry / part["path"] for each in layout["shards"] for part in each["files"])
        return self._shards[entry]


def _files(entry: Path) -> Iterator[_File]:
    for folder, _, names in os.walk(entry):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):  # gone meanwhile
                status = path.lstat()
                yield _File(status.st_mtime, status.st_size, path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process was faster
        if path.is_dir():
            away = path.with_name(f".{path.name}-{os.getpid()}")
            path.replace(away)  # in one step, so that nobody opens half of it
            shutil.rmtree(away, ignore_errors=True)
        else:
            path.unlink()
