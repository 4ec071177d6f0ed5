"""Files that are written all or not at all, and files that are read without trust.

    replace_file(path, data, scratch=folder)   # temporary name, fsync, rename, fsync of the directory
    inside(root, "tokens/c/0/0")               # the path, or StoreDamaged when it would leave `root`
    map_array(path, np.float16, count, offset) # a read-only view into a memory map, bounds checked against the file

Everything here is POSIX and works on NFS: no locks, only O_EXCL, rename and fsync.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from umecache.stores.errors import StoreDamaged

WORK = ".writing"
"""Folder inside an unsealed store for claims, the plan and temporary files; gone once the store is sealed."""

CARD = "README.md"
"""What a store is, in words, put beside its files by whoever shares it; may be changed or removed."""

MAX_JSON = 1 << 28  # bytes; parsing takes several times that in memory


def canonical(document: Any) -> bytes:
    """The one byte string that stands for a JSON document when it is hashed."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def pretty(document: Any) -> bytes:
    """JSON for people, in one fixed form: UTF-8, keys in the order given, what fits on a line and lists of plain values
    on one line each, a newline at the end."""
    return (_lines(document, "") + "\n").encode()


def _lines(value: Any, indent: str) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    deep = any(isinstance(item, dict | list | tuple) for item in items)
    if not items or (len(text) + len(indent) <= 110 and indent) or (isinstance(value, list | tuple) and not deep):
        return text
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_lines(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{_lines(item, inner)}" for item in items) + f"\n{indent}]"


def write_all(fd: int, data: Any, offset: int) -> None:
    """Write every byte of a buffer at `offset`; a short write is continued, never taken for success."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        if written <= 0:
            raise OSError(errno.ENOSPC, "The device takes no more bytes")
        view, offset = view[written:], offset + written


def fsync_dir(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no fsync of folders
            raise
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes) -> None:
    """Create `path` with `data` and fsync it; the name itself is not yet durable."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def make_dirs(folder: Path) -> None:
    """`mkdir -p` whose new directories survive a power cut."""
    if folder.is_dir():
        return
    make_dirs(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_dir(folder.parent)


def replace_file(path: Path, data: bytes, *, scratch: Path) -> None:
    """Put `data` at `path` in one atomic step: readers see the old file or the whole new one.

    Args:
        scratch: an existing folder on the same file system, for the temporary file.
    """
    temporary = scratch / f"{path.name}-{uuid.uuid4().hex}"
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(root: Path, relative: str) -> Path:
    """The file that a manifest names, once it is sure to lie inside the store.

    Raises:
        StoreDamaged: the path is absolute, climbs out with `..`, or leaves through a symbolic link.
    """
    parts = relative.split("/")
    odd = "" in parts or "." in parts or ".." in parts or "\\" in relative or "\0" in relative
    path = root / relative
    if not odd:
        at = str(root)
        for part in parts:  # below the root; links in the path to the store itself are the user's own
            at = f"{at}/{part}"
            try:
                linked = stat.S_ISLNK(os.lstat(at).st_mode)
            except (OSError, ValueError):  # missing, a name too long, a lone surrogate: nothing to follow
                break
            if linked:
                odd = not _stays_inside(root, path)
                break
    if odd:
        raise StoreDamaged(f"The store {root} names a file outside itself: {relative!r}.")
    return path


def _stays_inside(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def size_of(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none (a folder, a pipe and a device are none)."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_small(path: Path) -> bytes:
    """All bytes of a metadata file.

    Raises:
        StoreDamaged: it is missing, unreadable, no regular file or absurdly large.
    """
    size = size_of(path)
    if size is None:
        raise StoreDamaged(f"{path} is missing.", next=f"umecache store verify {path.parent}")
    if size > MAX_JSON:
        raise StoreDamaged(f"{path} has {size} bytes, far more than such a file can need.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreDamaged(f"{path} can't be read.", why=f"{error.strerror}.") from error


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """A JSON object from untrusted bytes.

    Raises:
        StoreDamaged: whatever is wrong with it.
    """
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path} is no valid JSON.", why=f"{error}.") from error
    if not isinstance(document, dict):
        raise StoreDamaged(f"{path} holds no JSON object.")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def read_json(path: Path) -> dict[str, Any]:
    """`read_small`, then `parse_json`."""
    return parse_json(read_small(path), path)


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file as a read-only array over a memory map; nothing is read yet.

    The map stays open as long as an array looks into it. Shared by forked children and by all readers of the host.

    Raises:
        StoreDamaged: no regular file is there, or it can't be read.
    """
    size = size_of(path)
    if size is None:
        raise StoreDamaged(f"{path} is missing.")
    if size == 0:
        return np.empty(0, np.uint8)  # an empty file can't be mapped
    try:
        with path.open("rb") as file:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise StoreDamaged(f"{path} can't be mapped.", why=f"{error}.") from error
    return np.frombuffer(view, np.uint8)


def view_array(buffer: NDArray[np.uint8], dtype: DTypeLike, count: int, offset: int, path: Path) -> NDArray[Any]:
    """`count` values of a mapped file, from byte `offset`.

    Raises:
        StoreDamaged: the file is too short for them.
    """
    dtype = np.dtype(dtype)
    if count < 0 or offset < 0 or offset + count * dtype.itemsize > buffer.size:
        raise StoreDamaged(f"{path} is cut short: {buffer.size} bytes, {offset + count * dtype.itemsize} needed.")
    return buffer[offset : offset + count * dtype.itemsize].view(dtype)


def map_array(path: Path, dtype: DTypeLike, count: int, offset: int = 0) -> NDArray[Any]:
    """`map_file`, then `view_array`."""
    return view_array(map_file(path), dtype, count, offset, path)


def walk(root: Path) -> Iterator[str]:
    """Relative POSIX paths of all files of a store, sorted.

    The work folder, a card for people (README.md) and NFS's leftovers are not the store's.
    """
    found = []
    for folder, folders, names in os.walk(root):
        relative = Path(folder).relative_to(root)
        if relative == Path():
            folders[:] = [name for name in folders if not name.startswith(WORK)]
            names = [name for name in names if name != CARD]
        found += [(relative / name).as_posix() for name in names if not name.startswith(".nfs")]
        # A link to a folder is listed, not entered: it is something a sealed store can't hold.
        found += [(relative / name).as_posix() for name in folders if (Path(folder) / name).is_symlink()]
    yield from sorted(found)
