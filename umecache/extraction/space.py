"""Whether what is planned fits on the disk, asked before hours are spent."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from umecache.errors import JobFailed
from umecache.stores import Writer

INDEX_BYTES = 256  # per id: places, digest, ids, receipt and checksum lines, rounded up


def free_bytes(path: Path) -> int:
    """Bytes that may still be written where `path` is or will be."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def bytes_to_write(writer: Writer) -> int:
    """What an unfinished store still needs, rounded up a little."""
    if writer.complete:
        return 0
    left = 1 - writer.done / max(writer.shards, 1)
    return round((writer.bytes + INDEX_BYTES * len(writer.plan.ids)) * left)


def check_space(writers: Iterable[Writer], *, ignore: bool = False) -> None:
    """Refuse to start what can't be finished.

    Stores on different disks are counted apart.

    Raises:
        JobFailed: the stores need more than is free.
    """
    needed: dict[int, int] = {}
    where: dict[int, Path] = {}
    for writer in writers:
        disk = writer.path.stat().st_dev if writer.path.exists() else 0
        needed[disk] = needed.get(disk, 0) + bytes_to_write(writer)
        where.setdefault(disk, writer.path)
    for disk, size in needed.items():
        free = free_bytes(where[disk])
        if size > free and not ignore:
            raise JobFailed(
                f"The stores need {size / 1e9:,.2f} GB more, and {where[disk].parent} has {free / 1e9:,.2f} GB free.",
                why="Nothing was encoded yet.",
                next="make room, set UMECACHE_HOME to a larger disk, take --dtype int8 or fewer --layers; or"
                " --ignore-space to start anyway",
            )
