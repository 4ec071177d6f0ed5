"""Pulling from a web server: GET, with Range where the server knows it. No listing is needed, and none is used.

HttpRemote("https://example.org/stores/vit?token=...")     # a query goes with every request, as USER:PASSWORD@ does
"""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from umecache.errors import UsageError
from umecache.sharing.remotes import RETRY, RemoteFailed, RemoteMissing
from umecache.sharing.urls import URLS, public, url_below

BLOCK = 1 << 18  # bytes per read: small, so that a slow line shows progress
TIMEOUT = 60.0  # seconds without a byte
GONE = (404, 410)
REFUSED = (401, 403)
NOTHING_THERE = 416  # the range begins at or behind the end


class HttpRemote:
    """Read-only."""

    parcel: int | None = None

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        self._said, self._login = url, base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode() if at else None
        self._base = parts._replace(netloc=host, query="", fragment="").geturl().rstrip("/")
        self._query = parts.query
        self.url, self.ranged = self._base, True

    def stream(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        headers = {"Accept-Encoding": "identity"}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        answer = self._open("GET", name, headers)
        if answer is None:
            return
        with answer:
            skip = 0
            if answer.status == 206:
                if _begins(answer.headers.get("Content-Range", "")) != start:
                    raise RemoteFailed(f"{self.url}/{name}: the server sends another range than asked for.", next=RETRY)
            elif "Range" in headers and (start or stop is not None):
                self.ranged, skip = False, start  # it sends everything: what comes before is passed over
            left = None if stop is None else stop - start
            while left != 0:
                try:
                    block = answer.read1(BLOCK if left is None or skip else min(BLOCK, left))
                except (OSError, http.client.HTTPException) as error:
                    raise RemoteFailed(f"{self.url}/{name} broke off.", why=f"{error!r:.200}.", next=RETRY) from error
                if not block:
                    if answer.length:  # of what it promised
                        raise RemoteFailed(f"{self.url}/{name} broke off: {answer.length:,} bytes short.", next=RETRY)
                    return
                passed = min(skip, len(block))
                skip -= passed
                if block := block[passed:][:left]:
                    left = None if left is None else left - len(block)
                    yield block

    def size(self, name: str) -> int | None:
        try:
            answer = self._open("HEAD", name, {"Accept-Encoding": "identity"})
        except RemoteMissing:
            return None
        except RemoteFailed:  # a server that knows no HEAD still serves
            return None
        if answer is None:
            return None
        with answer:
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isdigit() else None

    def sizes(self, most: int) -> dict[str, int] | None:
        return None

    def write(self, files: Mapping[str, Path | bytes]) -> None:
        raise UsageError(f"{self.url} can only be read.", next="Push to a folder that the web server serves.")

    def remove(self, names: Sequence[str]) -> None:
        self.write({})

    def below(self, name: str) -> HttpRemote:
        return HttpRemote(url_below(self._said, name)) if name else self

    def _open(self, method: str, name: str, headers: Mapping[str, str]) -> http.client.HTTPResponse | None:
        """The server's answer; None: the range lies behind the object's end."""
        url = f"{self._base}/{urllib.parse.quote(name)}" + (f"?{self._query}" if self._query else "")
        request = urllib.request.Request(url, headers=dict(headers), method=method)
        if self._login is not None:  # for this server alone, not for one that it sends us to
            request.add_unredirected_header("Authorization", f"Basic {self._login}")
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in GONE:
                    raise RemoteMissing(f"There is no {self.url}/{name}.") from error
                if error.code == NOTHING_THERE:
                    return None
                advice = f"Say the URL with its token, or set {URLS} to it." if error.code in REFUSED else RETRY
                raise RemoteFailed(f"{self.url}/{name}: {error.code} {error.reason}.", next=advice) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RemoteFailed(
                f"{self.url}/{name} can't be reached.", why=public(f"{getattr(error, 'reason', error)}."), next=RETRY
            ) from error
        return answer


def _begins(content_range: str) -> int | None:
    first = content_range.removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None
