"""Objects of a remote, brought into a folder whole: resumed, bounded, checked, then named.

    fetch_all(remote, wanted, folder, task=task)

Bytes go to FOLDER/.writing/parts first. A file gets its name when its sha256 is the listed one, so whatever has a
name arrived whole, and a run that was killed goes on at the byte where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from umecache.reporting import Task
from umecache.sharing.remotes import RETRY, Remote, RemoteFailed
from umecache.stores.commit import telling
from umecache.stores.errors import StoreDamaged
from umecache.stores.files import MAX_JSON, WORK, fsync_dir, inside, make_dirs, share, size_of

JOBS = 8  # objects under way at once
TRIES = 6  # in a row without a new byte
PAUSE = 0.5  # seconds before the second try; doubles
KEPT = "What has arrived is kept."
PARTS = f"{WORK}/parts"
SMALL_FILES = 1 << 30  # bytes; `Progress.small` where nobody says otherwise

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object that is to arrive.

    Attributes:
        size: as the manifest declares it; None for small files, of which it says nothing.
    """

    name: str
    sha256: str
    size: int | None = None

    @property
    def limit(self) -> int:
        """No more bytes than these are taken, whatever the remote sends."""
        return MAX_JSON if self.size is None else self.size


class Progress:
    """A task that many threads may move, in megabytes; and the word to stop.

    Args:
        small: bytes that files of undeclared size may have together.
    """

    def __init__(self, task: Task, small: int = SMALL_FILES) -> None:
        self._task, self._lock, self._small = task, threading.Lock(), small
        self.bytes = 0  # that came over the wire
        self.stop = threading.Event()

    def add(self, n: int) -> None:
        """`n` more bytes have arrived."""
        with self._lock:
            self.bytes += n
            self._task.advance(n / 1e6)

    def spend(self, n: int, url: str) -> None:
        """`n` more bytes of which no manifest spoke; StoreDamaged when they are far too many."""
        with self._lock:
            self._small -= n
            if self._small < 0:
                raise StoreDamaged(f"{url}: its small files have far more bytes than such a store needs.")


def patiently(ask: Callable[[], T], tries: int = 3) -> T:
    """What `ask` gives; asked again, after a moment, where the line failed."""
    for left in reversed(range(tries)):
        try:
            return ask()
        except RemoteFailed:
            if not left:
                raise
            time.sleep(PAUSE)
    raise AssertionError("unreachable")


def fetch_all(remote: Remote, wanted: Sequence[Wanted], folder: Path, progress: Progress, jobs: int = JOBS) -> None:
    """Bring all of them into `folder`; those that are there already arrived whole.

    Raises:
        StoreDamaged: something arrived that differs from what CHECKSUMS or the manifest says; nothing of it is kept.
        RemoteMissing, RemoteFailed: the other side lacks something, or broke off; what arrived is kept.
        StoreWriteFailed: a full disk and the like.
    """
    missing = [each for each in wanted if not _arrived(folder, each)]
    in_parallel([partial(fetch, remote, each, folder, progress) for each in missing], progress, jobs)


def _arrived(folder: Path, wanted: Wanted) -> bool:
    size = size_of(inside(folder, wanted.name))
    return size is not None and wanted.size in (None, size)


def in_parallel(work: Sequence[Callable[[], Any]], progress: Progress, jobs: int = JOBS) -> list[Any]:
    """Results in order; the first failure, or Ctrl-C, stops all the others at their next block."""
    if not work:
        return []
    with ThreadPoolExecutor(max_workers=min(jobs, len(work)), thread_name_prefix="share") as pool:
        futures = [pool.submit(each) for each in work]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [each for each in futures if each.done() and each.exception()]
            return [each.result() for each in failed or futures]
        finally:
            if not all(each.done() for each in futures):
                progress.stop.set()
                pool.shutdown(cancel_futures=True)
                progress.stop.clear()


def fetch(remote: Remote, wanted: Wanted, folder: Path, progress: Progress) -> None:
    """One object; errors as `fetch_all`."""
    part = inside(folder, f"{PARTS}/{hashlib.sha256(wanted.name.encode()).hexdigest()[:32]}")
    with telling(folder, wanted.name, [KEPT]):
        make_dirs(part.parent)
        resumed = size_of(part) or 0
    if _receive(remote, wanted, part, progress) != wanted.sha256:
        part.unlink()
        # What was left of an earlier try may be of another version: once more, from the first byte.
        if not resumed or _receive(remote, wanted, part, progress) != wanted.sha256:
            part.unlink(missing_ok=True)
            raise StoreDamaged(
                f"{remote.url}/{wanted.name} arrived, but is not what CHECKSUMS lists.",
                why="It is damaged there, or on the way; it was thrown away.",
                next="Repair or push that store again where it came from, then pull again: the rest is kept.",
            )
    with telling(folder, wanted.name, [KEPT]):
        final = inside(folder, wanted.name)
        make_dirs(final.parent)
        part.replace(final)
        fsync_dir(final.parent)


def _receive(remote: Remote, wanted: Wanted, part: Path, progress: Progress) -> str:
    """Go on with `part` until the object's end; the sha256 of all of it."""
    with telling(part, wanted.name, [KEPT]):
        # Never through a link that somebody else put there.
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        share(part)
    with os.fdopen(fd, "r+b") as file:
        if os.fstat(fd).st_size > wanted.limit:
            file.truncate(0)
        digest = hashlib.file_digest(file, "sha256")
        have = file.seek(0, os.SEEK_END)
        tries, pause = TRIES, PAUSE
        while wanted.size is None or have < wanted.size:
            before = have
            try:
                for block in remote.stream(wanted.name, have, wanted.size):
                    if progress.stop.is_set():
                        raise RemoteFailed("Stopped.", next=RETRY)
                    have += len(block)
                    if have > wanted.limit:
                        raise StoreDamaged(
                            f"{remote.url}/{wanted.name} sends more than its {wanted.limit:,} bytes.",
                            why="Its size is not what the store says; nothing more was taken.",
                        )
                    if wanted.size is None:
                        progress.spend(len(block), remote.url)
                    with telling(part.parents[2], wanted.name, [KEPT]):
                        file.write(block)
                    digest.update(block)
                    progress.add(len(block))
                if wanted.size is None or have == wanted.size:
                    break
                why = RemoteFailed(
                    f"{remote.url}/{wanted.name} is cut short: {have:,} of {wanted.size:,} bytes.", next=RETRY
                )
            except RemoteFailed as error:
                if progress.stop.is_set():
                    raise
                why = error
            tries, pause = (TRIES, PAUSE) if have > before else (tries - 1, pause * 2)
            if tries <= 0 or progress.stop.wait(pause):
                raise why
        with telling(part.parents[2], wanted.name, [KEPT]):
            file.flush()
            os.fsync(fd)
    return digest.hexdigest()
