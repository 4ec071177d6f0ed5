"""Fetch one large file over HTTP so that no byte is fetched twice and none is taken on trust.

    fetch("http://host/train2014.zip", Path("train2014.zip"), options)

Bytes go to `NAME.part`; `NAME.part.json` says which version of the file they belong to (ETag, Last-Modified, size).
A later attempt asks for the rest with `Range` and `If-Range`: a server that has another version by now, or knows no
ranges, sends the whole file and we start over. A dropped connection is tried again after a pause that doubles; tries
are counted anew whenever bytes arrive. Only a file of the promised size gets its name.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from umecache.data.files import write_text
from umecache.errors import JobFailed, UsageError
from umecache.reporting import Reporter, Silent, Task

_BLOCK = 1 << 18  # bytes per read
_PATIENT = frozenset((408, 425, 429, 500, 502, 503, 504))  # the server may answer otherwise later


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How to deal with the network.

    Attributes:
        retries: tries in a row without a new byte before giving up.
        pause: seconds before the second try; doubles up to `longest_pause`.
        timeout: seconds without a byte that count as a dropped connection.
        sleep: for tests.
    """

    retries: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 60.0
    reporter: Reporter = field(default_factory=Silent)
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class _Version:
    """Which version of a file the server sends; None: it doesn't say."""

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None

    @property
    def condition(self) -> str | None:
        """The value for If-Range: it takes no weak ETag."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def same_as(self, other: _Version) -> bool:
        return (self.url, self.size) == (other.url, other.size) and (
            self.etag == other.etag if self.etag and other.etag else self.modified == other.modified
        )


class _Dropped(Exception):
    """The connection broke or the server is busy: worth another try, `after` that many seconds if it says so."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def size_of(url: str, options: FetchOptions) -> int | None:
    """Bytes of a file on a server, by HEAD; None where the server doesn't tell."""
    try:
        with _open(urllib.request.Request(url, method="HEAD"), min(options.timeout, 15.0)) as response:
            return _version(url, response).size
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, http.client.HTTPException):
        return None


def fetch(url: str, target: Path, options: FetchOptions, *, size: int | None = None) -> Path:
    """Fetch `url` to `target`, going on from an earlier attempt.

    Args:
        size: what `size_of` said, for the progress bar.

    Raises:
        UsageError: no http(s) URL.
        JobFailed: the server has no such file, or the connection keeps failing; what arrived is kept.
    """
    check_url(url)
    part = target.with_name(f"{target.name}.part")
    failures = 0
    with options.reporter.task(f"fetching {target.name}", None if size is None else size / 1e6, "MB") as task:
        task.advance(_size(part) / 1e6)
        while True:
            have = _size(part)
            try:
                _attempt(url, part, options, task)
                break
            except _Dropped as error:
                failures = 1 if _size(part) > have else failures + 1
                if failures > options.retries:
                    safe = _size(part)
                    raise JobFailed(
                        f"{url} could not be fetched: {error}.",
                        why=f"{safe:,} bytes are safe in {part}." if safe else "",
                        next="run the same command again: it goes on from there"
                        if safe
                        else "check the network and run the same command again, or name a mirror with --base-url",
                    ) from error
                pause = min(options.pause * 2 ** (failures - 1), options.longest_pause)
                pause = max(
                    pause * random.uniform(0.75, 1.25), error.after
                )  # several processes shouldn't knock at once
                options.reporter.say(f"{target.name}: {error}; trying again in {pause:.0f} s")
                options.sleep(pause)
            except OSError as error:
                raise JobFailed(f"{part} can't be written: {error.strerror}.") from error
    part.replace(target)
    _facts(part).unlink(missing_ok=True)
    return target


def check_url(url: str) -> None:
    """Refuse what is not HTTP.

    Raises:
        UsageError: another scheme, or no host.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"{url!r} is no http or https address.", next="--base-url http://host/folder")


def _attempt(url: str, part: Path, options: FetchOptions, task: Task) -> None:
    """One request; returns when `part` is whole."""
    have, known = _size(part), _read_facts(part)
    if have and (known is None or known.url != url):
        have = 0  # bytes of who knows what
    if have and known is not None and known.size == have:
        return  # stopped between the last byte and the rename
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have and known is not None:
        request.add_header("Range", f"bytes={have}-")
        if known.condition:
            request.add_header("If-Range", known.condition)
    try:
        response = _open(request, options.timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # a file shorter than what we have is there now
                _forget(part)
                raise _Dropped("the file on the server has changed; starting over") from error
            if error.code in _PATIENT:
                after = error.headers.get("Retry-After", "")
                raise _Dropped(f"the server says {error.code} {error.reason}", _seconds(after, options)) from error
            raise JobFailed(
                f"{url} could not be fetched: the server says {error.code} {error.reason}.",
                next="check the address, or name a mirror with --base-url",
            ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(_words(error)) from error
    with response:
        version = _version(url, response)
        if have and (response.status != 206 or known is None or not known.same_as(version)):
            have = 0
            if response.status == 206:  # the rest of another version is no use
                _forget(part)
                raise _Dropped("the file on the server has changed; starting over")
        elif have and _start(response) != have:
            _forget(part)
            raise _Dropped("the server sent another range than asked for; starting over")
        write_text(
            _facts(part),
            json.dumps({"size": version.size, "etag": version.etag, "modified": version.modified, "url": url}),
        )
        _receive(response, part, have, version.size, task)


def _receive(response: IO[bytes], part: Path, have: int, size: int | None, task: Task) -> None:
    done = have
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        while True:
            try:
                block = response.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Dropped(_words(error)) from error
            if not block:
                break
            file.write(block)
            done += len(block)
            task.advance(len(block) / 1e6)
    if size is not None and done < size:
        raise _Dropped(f"the connection dropped after {done:,} of {size:,} bytes")
    if size is not None and done > size:
        _forget(part)
        raise _Dropped(f"the server sent {done:,} bytes for a file of {size:,}; starting over")


def _open(request: urllib.request.Request, timeout: float) -> Any:
    request.add_header("User-Agent", "umecache")
    return urllib.request.urlopen(request, timeout=timeout)


def _version(url: str, response: Any) -> _Version:
    """Size (of the whole file, also where a part is sent) and validators of a response."""
    headers = response.headers
    size = headers.get("Content-Length")
    if response.status == 206:
        match = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
        size = match[1] if match else None
    return _Version(
        url, int(size) if size and size.isdigit() else None, headers.get("ETag"), headers.get("Last-Modified")
    )


def _start(response: Any) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _read_facts(part: Path) -> _Version | None:
    try:
        facts = json.loads(_facts(part).read_text(encoding="utf-8"))
        return _Version(facts["url"], facts["size"], facts["etag"], facts["modified"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _facts(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _facts(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _seconds(text: str, options: FetchOptions) -> float:
    return min(float(text), options.longest_pause) if text.isdigit() else 0.0


def _words(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
