"""A file that says "somebody is at work here", and stops saying so when that process is gone, however it ended.

    with lock(folder / "lock"):
        ...

The kernel drops an `flock` with its process, so nothing stale is ever left behind. It works between processes of one
machine (and on most network file systems); where the system has no such locks, everything counts as free.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class Taken(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file; it is made where there is none.

    Raises:
        Taken: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _take(descriptor):
            raise Taken(str(path))
        yield
    finally:
        os.close(descriptor)


def held(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with lock(path):
            return False
    except Taken:
        return True


def _take(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that has no locks
        return True
    return True
