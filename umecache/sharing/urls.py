"""URLs and their secrets: what may be written down and said, and what only goes over the wire.

    public("https://me:pw@lab.org/vit?token=1")       # https://lab.org/vit
    private("https://lab.org/vit/val")                # .../val?token=1, where UMECACHE_URLS has the first

A query (`?token=`, a signature) and a password are taken for secrets. No run, card, message or log holds them, so what
reads a URL again later, `predict` say, finds them in `UMECACHE_URLS`: URLs as they are said, separated by spaces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

URLS = "UMECACHE_URLS"

_WEB = ("http", "https")
_QUERY = re.compile(r"(\bhttps?://[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)
_USER = re.compile(r"(\bhttps?://)[^\s/?#]*@", re.IGNORECASE)  # a name alone may be a token
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.]*://[^\s/?#@:]*):[^\s/?#]*@", re.IGNORECASE)


def public(text: str) -> str:
    """A URL, or any text that may hold some, without their secrets."""
    if text.lower().startswith(("http://", "https://")) and not re.match(
        r"[^?#]*\s", text
    ):  # whatever its query is made of
        text = re.split(r"[?#]", text, maxsplit=1)[0]
    return _PASSWORD.sub(r"\1@", _USER.sub(r"\1", _QUERY.sub(r"\1", text)))


def public_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON document with every text as `public` has it."""
    return {key: _public(value) for key, value in facts.items()}


def _public(value: Any) -> Any:
    if isinstance(value, str):
        return public(value)
    if isinstance(value, Mapping):
        return public_facts(value)
    return [_public(each) for each in value] if isinstance(value, list | tuple) else value


def private(url: str) -> str:
    """A URL as it was said, or with the secrets that `UMECACHE_URLS` has for it or for a folder above it."""
    if public(url) != url:
        return url
    for each in sorted(os.environ.get(URLS, "").split(), key=len, reverse=True):  # the nearest folder first
        folder = public(each).rstrip("/")
        if url.rstrip("/") == folder or url.startswith(f"{folder}/"):
            return urlsplit(each)._replace(path=urlsplit(url).path).geturl()
    return url


def url_below(url: str, name: str) -> str:
    """The URL of something in that folder, its query kept behind; "" is the folder itself."""
    parts = urlsplit(url)
    if not name or parts.scheme not in _WEB:
        return f"{url.rstrip('/')}/{name}" if name else url
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


def url_above(url: str) -> str:
    """The URL of the folder that something lies in, its query kept behind."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/").rpartition("/")[0]).geturl()
