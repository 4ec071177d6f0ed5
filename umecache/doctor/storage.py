"""Each home's disk: room, inodes, what kind of file system it is, whether it locks, who may write.

Nothing is guessed from the kind: files are made, locked, renamed and removed again.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from umecache.doctor.finding import Finding

if sys.platform != "win32":
    import fcntl

LITTLE_BYTES = 10e9  # less is not much for stores: ViT-B/16 of VQA v2 takes 109 GB
NO_BYTES = 1e9
LITTLE_INODES = 100_000  # VQA v2 alone is 123,000 images
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p"}


def check_home(home: Path, *, writes: bool) -> Iterator[Finding]:
    """One home.

    Args:
        writes: it is the one that is written to; the others need only be readable.
    """
    label = f"home {home}"
    at = nearest(home)
    if not home.exists() and not writes:
        yield Finding(label, "WARN", "does not exist, so nothing is found in it", "mend UMECACHE_HOME, or mount it")
        return
    kind = file_system(at)
    may = os.access(at, os.W_OK | os.X_OK)
    if not may and writes:
        yield Finding(label, "FAIL", f"can't be written ({kind})", "set UMECACHE_HOME to a folder of yours")
        return
    if not os.access(at, os.R_OK | os.X_OK):
        yield Finding(label, "FAIL", "can't be read", f"ask its owner: chmod g+rx {home}")
        return
    yield from check_kind(label, kind)
    if not may:
        yield Finding(label, "PASS", "read-only for you: its stores are used, nothing is written there")
        return
    yield from check_room(label, at, writes=writes)
    yield from check_files(label, at)
    if home.exists():
        yield from check_group(label, home)


def nearest(path: Path) -> Path:
    """The folder itself, or the first above it that exists."""
    at = path.absolute()
    while not at.is_dir() and at != at.parent:
        at = at.parent
    return at


def file_system(path: Path, mounts: str | None = None) -> str:
    """The kind of file system of a folder, as Linux calls it; "unknown" elsewhere.

    Args:
        mounts: the text of /proc/self/mountinfo.
    """
    if mounts is None:
        table = Path("/proc/self/mountinfo")
        mounts = table.read_text(errors="replace") if table.exists() else ""
    best, kind = -1, "unknown"
    resolved = path.resolve()
    for line in mounts.splitlines():
        fields, _, told = line.partition(" - ")
        if len(parts := fields.split()) < 5 or not told:
            continue
        point = parts[4].replace("\\040", " ")
        if resolved.is_relative_to(point) and len(point) >= best:  # of two mounts at one place the later counts
            best, kind = len(point), told.split()[0]
    return kind


def check_kind(label: str, kind: str) -> Iterator[Finding]:
    """What its file system is good for."""
    if kind in ("tmpfs", "ramfs"):
        yield Finding(
            label, "WARN", f"lies in memory ({kind}): stores are gone after a restart", "set UMECACHE_HOME to a disk"
        )
    elif kind in NETWORK or kind.startswith("fuse."):
        yield Finding(label, "PASS", f"a network or user-space file system ({kind})")
    else:
        yield Finding(label, "PASS", f"file system {kind}")


def check_room(label: str, at: Path, *, writes: bool) -> Iterator[Finding]:
    """Free bytes, and free inodes where the file system counts them."""
    free = shutil.disk_usage(at).free
    counted = os.statvfs(at) if hasattr(os, "statvfs") else None
    inodes = counted.f_favail if counted is not None and counted.f_files else None
    told = f"{free / 1e9:,.1f} GB free" + ("" if inodes is None else f", {inodes:,} inodes")
    if writes and (free < NO_BYTES or inodes == 0):
        yield Finding(label, "FAIL", told, "make room (umecache store gc), or set UMECACHE_HOME to another disk")
    elif free < LITTLE_BYTES or (inodes is not None and inodes < LITTLE_INODES):
        yield Finding(label, "WARN", told, "umecache plan says what stores take; umecache store gc what can go")
    else:
        yield Finding(label, "PASS", told)


def check_files(label: str, at: Path) -> Iterator[Finding]:
    """What stores rely on, tried: exclusive creation, rename, fsync; and file locks, which runs use."""
    try:
        with tempfile.TemporaryDirectory(prefix=".umecache-doctor-", dir=at) as name:
            folder = Path(name)
            exclusive = creates_once(folder)
            renames(folder)
            locks = locks_exclude(folder)
    except OSError as error:
        says = f"files can't be made and renamed: {error.strerror or error}"
        yield Finding(label, "FAIL", says, "set UMECACHE_HOME to another disk")
        return
    if not exclusive:
        says = "two processes can create the same file, so claims don't hold"
        yield Finding(label, "FAIL", says, "extract with one process only, or set UMECACHE_HOME to another disk")
    elif not locks:
        says = "file locks are not kept: a run that is started twice is not noticed, and HDF5 may refuse to open"
        yield Finding(
            label, "WARN", says, "mount it with locks (NFS: without nolock); export HDF5_USE_FILE_LOCKING=FALSE"
        )
    else:
        yield Finding(label, "PASS", "writable; exclusive creation, rename, fsync and locks work")


def creates_once(folder: Path) -> bool:
    """Whether O_EXCL refuses a name that is taken."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    os.close(os.open(folder / "claim", flags))
    try:
        os.close(os.open(folder / "claim", flags))
    except FileExistsError:
        return True
    return False


def renames(folder: Path) -> None:
    """Replace a file by another, to be found after a power cut; raises OSError where that can't be."""
    target, fresh = folder / "target", folder / "fresh"
    target.write_bytes(b"old")
    with fresh.open("wb") as file:
        file.write(b"new")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    if target.read_bytes() != b"new":
        raise OSError("a renamed file shows its old content")


def locks_exclude(folder: Path) -> bool:
    """Whether a second holder of a lock is refused."""
    if sys.platform == "win32":
        return True
    first, second = (os.open(folder / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    except OSError:  # no locks at all
        return False
    finally:
        os.close(first)
        os.close(second)


def check_group(label: str, home: Path) -> Iterator[Finding]:
    """Whether what one member writes the others can use: group-writable and setgid belong together."""
    if sys.platform == "win32":
        return
    mode = home.stat().st_mode
    group, setgid = bool(mode & stat.S_IWGRP), bool(mode & stat.S_ISGID)
    if group and not setgid:
        says = "the group may write, but new files get their maker's own group"
        yield Finding(label, "WARN", says, f"chmod g+s {home} (and the folders in it), where a lab shares it")
    elif setgid and not group:
        yield Finding(label, "WARN", "setgid, but the group may not write", f"chmod g+w {home}, where a lab shares it")
    else:
        yield Finding(label, "PASS", "shared with its group (setgid)" if group else "yours alone to write")
