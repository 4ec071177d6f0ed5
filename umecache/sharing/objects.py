"""Object stores, `s3://` and `gs://`: folders are only parts of names there, and one listing tells all sizes.

remote = open_objects("s3://bucket/stores/vit")
remote.sizes(10_000)          # name -> bytes of what lies below it
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from umecache.errors import UsageError
from umecache.sharing.remotes import RETRY, FsspecRemote, RemoteFailed, RemoteMissing, speaking

PAGE = 1000  # objects of one answer
BLOCK = 1 << 20  # bytes that are handed on at a time


def open_objects(url: str) -> ObjectRemote:
    """The remote of an `s3://` or `gs://` URL.

    Raises:
        UsageError: it names no bucket.
        RemoteFailed: its library refuses the URL, or knows no credentials.
    """
    from fsspec.core import url_to_fs

    if not url.partition("://")[2].strip("/"):
        raise UsageError(f"{url} names no bucket.", next=f"{url.partition('://')[0]}://BUCKET/FOLDER")
    for name in ("gcsfs", "asyncio"):  # they would print their tracebacks, beside the one line of ours
        logging.getLogger(name).addHandler(logging.NullHandler())
    with speaking(url):
        system, root = url_to_fs(url)
    kind = S3Remote if url.startswith("s3://") else GsRemote
    return kind(url.rstrip("/"), system, root)


class ObjectRemote(FsspecRemote):
    """A bucket, or what lies below a prefix of one."""

    def sizes(self, most: int) -> dict[str, int] | None:
        prefix = f"{self.root}/".partition("/")[2]
        found: dict[str, int] = {}
        try:
            with speaking(self.url):
                for name, size in self._listed(self.root.partition("/")[0], prefix):
                    if len(found) == most:  # it never ends, or holds far more than a store
                        return None
                    found[name.removeprefix(prefix)] = size
        except RemoteMissing as error:
            bucket = self.url.partition("://")[2].partition("/")[0]
            raise RemoteMissing(
                f"There is no bucket {bucket!r}, or not for these credentials.", next="Make it, or name another one."
            ) from error
        except RemoteFailed:  # many may read a bucket and not list it
            return None
        return found

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        for name, source in files.items():
            with speaking(f"{self.url}/{name}"):
                if isinstance(source, bytes):
                    self.system.pipe_file(self._path(name), source)
                else:
                    self.system.put_file(str(source), self._path(name))

    def below(self, name: str) -> ObjectRemote:
        return type(self)(f"{self.url}/{name}", self.system, self._path(name)) if name else self

    def _listed(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        """Name and bytes of each object, page by page."""
        raise NotImplementedError


class S3Remote(ObjectRemote):
    """`s3://BUCKET/PREFIX`."""

    def stream(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """One request for however many bytes: they are yielded as they come."""
        from fsspec.asyn import sync

        if stop is not None and stop <= start:
            return
        bucket, _, key = self._path(name).partition("/")
        part = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"} if start or stop is not None else {}
        try:
            with speaking(f"{self.url}/{name}"):
                answer = self.system.call_s3("get_object", Bucket=bucket, Key=key, **part)
        except RemoteFailed:
            if stop is None and self.size(name) == start:  # a range that begins at the end is an error here
                return
            raise
        body = answer["Body"]

        async def some() -> bytes:
            data = bytearray()
            while len(data) < BLOCK and (piece := await body.read(BLOCK - len(data))):
                data += piece
            return bytes(data)

        try:
            if part and not str(answer.get("ContentRange")).startswith(f"bytes {start}-"):
                raise RemoteFailed(f"{self.url}/{name}: the server sends another range than asked for.", next=RETRY)
            while True:
                with speaking(f"{self.url}/{name}"):
                    block = sync(self.system.loop, some)
                if not block:
                    return
                yield block
        finally:
            self.system.loop.call_soon_threadsafe(body.close)

    def _listed(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        said: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": PAGE}
        while True:
            page = self.system.call_s3("list_objects_v2", **said)
            for each in page.get("Contents", ()):
                yield str(each["Key"]), int(each["Size"])
            if not page.get("NextContinuationToken") or not page.get("Contents"):
                return
            said["ContinuationToken"] = page["NextContinuationToken"]


class GsRemote(ObjectRemote):
    """`gs://BUCKET/PREFIX`."""

    def _listed(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        said: dict[str, Any] = {"prefix": prefix, "maxResults": PAGE}
        while True:
            page = self.system.call("GET", "b/{}/o", bucket, json_out=True, **said)
            for each in page.get("items", ()):
                yield str(each["name"]), int(each["size"])
            if not page.get("nextPageToken") or not page.get("items"):
                return
            said["pageToken"] = page["nextPageToken"]
