"""Where stores are pushed to and pulled from: one small interface over folders, HTTP, fsspec and the hub.

    remote = open_remote("s3://bucket/stores/vit")
    b"".join(remote.stream("val/manifest.json"))

Nothing depends on a listing: it may lie or never end, and plain web servers have none. It only saves questions.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from umecache.errors import JobFailed, MissingExtra, UmecacheError, UsageError
from umecache.sharing.urls import private, public
from umecache.stores.files import inside, size_of

BLOCK = 4 << 20  # bytes read at a time
RETRY = "Run the same command again: what has arrived is kept."

RIGHTS = "Check the name, the credentials and what they may do; what has arrived is kept."
DENIED = ("Credential", "Authentication", "AccessDenied", "401", "403")  # in what libraries say

# Protocol -> the package that fsspec needs for it, and our extra that brings it.
PROTOCOLS = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"),
    "ssh": ("paramiko", "ssh"),
    "sftp": ("paramiko", "ssh"),
    "hf": ("huggingface_hub", "hub"),
    "memory": ("fsspec", "hub"),
}


class RemoteFailed(JobFailed):
    """The other side could not be reached, or broke off; trying again may help."""


class RemoteMissing(UmecacheError):
    """The other side has no such object."""


class Remote(Protocol):
    """A place that holds objects by relative POSIX name.

    Attributes:
        url: what people call it, without a secret.
        ranged: whether part of an object can be read without the rest; may turn False when first tried.
        parcel: bytes that are best written together, one write after the other; None: any, in parallel.
    """

    url: str
    ranged: bool
    parcel: int | None

    def stream(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop` (None: the end) of an object; a remote may send more, or break off.

        Raises:
            RemoteMissing: there is no such object.
            RemoteFailed: anything else that went wrong.
        """

    def size(self, name: str) -> int | None:
        """What the remote says an object's size is; None: nothing, or there is none."""

    def sizes(self, most: int) -> dict[str, int] | None:
        """Name and bytes of everything there, as one listing says; None: no listing, or of more than `most`."""

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        """Put objects there, each whole, in their order."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects; harmless where there are none."""

    def below(self, name: str) -> Remote:
        """The same place, one or more folders deeper; "" is the place itself."""


def open_remote(url: str) -> Remote:
    """The remote that a URL or a path means.

    Raises:
        UsageError: an unknown protocol.
        MissingExtra: its package is not installed.
    """
    url = private(url)
    protocol, separator, rest = url.partition("://")
    if not separator:
        return FolderRemote(Path(url).expanduser())
    if protocol == "file":
        return FolderRemote(Path(rest))
    if protocol in ("http", "https"):
        from umecache.sharing.http import HttpRemote

        return HttpRemote(url)
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in ("file", "http", "https", *PROTOCOLS) if name != "memory")
        raise UsageError(
            f"{public(url).partition('?')[0]} is nowhere that stores can be kept.", why=f"Known: a folder, {known}."
        )
    package, extra = PROTOCOLS[protocol]
    require(package, extra, purpose=f"{protocol}://")
    if protocol == "hf":
        from umecache.sharing.hub import HubRemote

        return HubRemote.open(url)
    if protocol in ("ssh", "sftp"):
        from umecache.sharing.ssh import SshRemote

        return SshRemote.open(url)
    if protocol != "memory":
        from umecache.sharing.objects import open_objects

        return open_objects(url)
    from fsspec.core import url_to_fs

    return FsspecRemote(url.rstrip("/"), *url_to_fs(url))


def require(package: str, extra: str, *, purpose: str) -> None:
    """Raise MissingExtra unless `package` and fsspec can be imported."""
    from importlib.util import find_spec

    for name in ("fsspec", package):
        if find_spec(name) is None:
            raise MissingExtra(name, extra, purpose=purpose)


@contextmanager
def speaking(url: str) -> Iterator[None]:
    """Whatever a protocol's library raises, in our words: each has exceptions of its own, some derived from nothing."""
    url = public(url)
    try:
        yield
    except UmecacheError:
        raise
    except FileNotFoundError as error:
        raise RemoteMissing(f"There is no {url}.") from error
    except Exception as error:
        told = public(f"{type(error).__name__}: {error}")[:220].rstrip(": ")  # libraries name signed URLs
        refused = isinstance(error, PermissionError) or any(word in told for word in DENIED)
        raise RemoteFailed(
            f"{url} can't be reached or refuses.", why=f"{told}.", next=RIGHTS if refused else RETRY
        ) from error


class FolderRemote:
    """A folder of this machine or a network share; read here, and written by `pull` itself in one rename."""

    ranged = True
    parcel: int | None = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, str(folder)

    def stream(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        path = inside(self.folder, name)
        with speaking(str(path)):
            if size_of(path) is None:  # a folder, a pipe, a device
                raise FileNotFoundError(path)
            with path.open("rb") as file:
                file.seek(start)
                left = -1 if stop is None else stop - start
                while block := file.read(BLOCK if left < 0 else min(BLOCK, left)):
                    left -= len(block) if left > 0 else 0
                    yield block

    def size(self, name: str) -> int | None:
        return size_of(inside(self.folder, name))

    def sizes(self, most: int) -> dict[str, int] | None:
        return None  # to ask for each costs nothing here

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        raise TypeError("A folder is written by pull, which renames the whole store into place.")

    def remove(self, names: Sequence[str]) -> None:
        raise TypeError("A folder is written by pull, which renames the whole store into place.")

    def below(self, name: str) -> FolderRemote:
        return FolderRemote(inside(self.folder, name)) if name else self


class FsspecRemote:
    """Anything that fsspec speaks."""

    ranged = True
    parcel: int | None = None

    def __init__(self, url: str, system: Any, root: str) -> None:
        self.url, self.system, self.root = url, system, root.rstrip("/")

    def _path(self, name: str) -> str:
        return posixpath.join(self.root, name)

    def stream(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        while stop is None or start < stop:
            end = start + BLOCK if stop is None else min(start + BLOCK, stop)
            try:
                with speaking(f"{self.url}/{name}"):
                    block = cast(bytes, self.system.cat_file(self._path(name), start=start, end=end))
            except RemoteFailed:
                # Object stores answer a range that begins at the end with an error.
                if stop is None and self.size(name) == start:
                    return
                raise
            if block:
                yield block
            if len(block) < end - start:
                return
            start += len(block)

    def size(self, name: str) -> int | None:
        try:
            with speaking(f"{self.url}/{name}"):
                size = self.system.info(self._path(name)).get("size")
        except RemoteMissing:
            return None
        return size if isinstance(size, int) else None

    def sizes(self, most: int) -> dict[str, int] | None:
        return None

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        for name, source in files.items():
            path = self._path(name)
            with speaking(f"{self.url}/{name}"):
                self.system.makedirs(posixpath.dirname(path), exist_ok=True)
                if isinstance(source, bytes):
                    self.system.pipe_file(path, source)
                else:
                    self.system.put_file(str(source), path)

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            with speaking(f"{self.url}/{name}"):
                try:
                    self.system.rm_file(self._path(name))
                except FileNotFoundError:
                    continue

    def below(self, name: str) -> FsspecRemote:
        return FsspecRemote(f"{self.url}/{name}", self.system, self._path(name)) if name else self


def read_small(remote: Remote, name: str, limit: int) -> bytes:
    """All bytes of a small object.

    Raises:
        RemoteMissing: there is none.
        RemoteFailed: it can't be read, or is larger than `limit` bytes.
    """
    data = bytearray()
    for block in remote.stream(name):
        data += block
        if len(data) > limit:
            raise RemoteFailed(f"{remote.url}/{name} has more than {limit:,} bytes, far more than such a file needs.")
    return bytes(data)


def read_ranges(remote: Remote, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Bytes `start` to `stop` of one object, each exactly as long as asked.

    Raises:
        RemoteFailed: the object is shorter, or can't be read.
    """
    found = []
    for start, stop in ranges:
        data = bytearray()
        for block in remote.stream(name, start, stop):
            data += block[: stop - start - len(data)]
            if len(data) == stop - start:
                break
        if len(data) < stop - start:
            raise RemoteFailed(f"{remote.url}/{name} is cut short: nothing at byte {start + len(data):,}.", next=RETRY)
        found.append(bytes(data))
    return found
