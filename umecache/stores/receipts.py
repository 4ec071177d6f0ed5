"""Receipts: a shard is done when its receipt says so, and the receipt is the last thing written.

    receipts/000003.json
    {"format_version": 1, "shard": 3, "start": 110784, "rows": 36928, "ids": [...], "tokens": [...], "crc32c": [...],
     "outliers": 0, "failures": [], "files": [{"path": "tokens/c/3/0", "bytes": 56737796, "sha256": "..."}]}

A receipt explains its shard without any other file: `ids` names the first id of each record in stored order, `tokens`
its rows (so records can be found by adding up), `crc32c` (hex) is over its stored bytes: tokens, then for int8
its scales, its outliers' row numbers (int64) and values; null for an input that failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from umecache.stores.dtypes import Stored
from umecache.stores.errors import StoreDamaged
from umecache.stores.files import inside, parse_json, pretty, read_small, size_of
from umecache.stores.manifest import FORMAT_VERSION, count, rows_of, take


@dataclass(frozen=True, slots=True)
class FileFact:
    """One file of a shard."""

    path: str  # relative, POSIX
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be read."""

    record: int  # index within the shard
    reason: str
    sha256: str | None  # of the file, where there is one


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one finished shard holds."""

    shard: int
    start: int  # first row
    rows: int
    ids: tuple[int | str, ...]
    tokens: tuple[int, ...]  # planned rows of each record
    crc32c: tuple[str | None, ...]
    outliers: int
    failures: tuple[Failure, ...]
    files: tuple[FileFact, ...]

    def to_json(self) -> bytes:
        """The file's bytes: facts one per line, long lists on one line each."""
        return pretty(
            {
                "format_version": FORMAT_VERSION,
                "shard": self.shard,
                "start": self.start,
                "rows": self.rows,
                "ids": list(self.ids),
                "tokens": list(self.tokens),
                "crc32c": list(self.crc32c),
                "outliers": self.outliers,
                "failures": [{"record": f.record, "reason": f.reason, "sha256": f.sha256} for f in self.failures],
                "files": [{"path": f.path, "bytes": f.bytes, "sha256": f.sha256} for f in self.files],
            }
        )


def receipt_name(k: int) -> str:
    """Relative path of shard k's receipt."""
    return f"receipts/{k:06d}.json"


def read_receipt(root: Path, k: int) -> Receipt:
    """The checked receipt of shard k.

    Raises:
        StoreDamaged: it is missing or malformed.
    """
    return parse_receipt(read_small(inside(root, receipt_name(k))), root / receipt_name(k))


def parse_receipt(data: bytes, file: Path) -> Receipt:
    """A receipt from untrusted bytes, or StoreDamaged."""
    document = parse_json(data, file)
    if not 1 <= count(document, "format_version", file) <= FORMAT_VERSION:
        raise StoreDamaged(f"{file} is a receipt of another version.")
    ids, tokens, crcs = (take(document, key, list, file) for key in ("ids", "tokens", "crc32c"))
    if not len(ids) == len(crcs) == len(tokens) or any(type(name) not in (int, str) for name in ids):
        raise StoreDamaged(f"{file} lists ids that are none.")
    if any(crc is not None and (type(crc) is not str or len(crc) != 8) for crc in crcs):
        raise StoreDamaged(f"{file} lists checksums that are none.")
    if any(type(n) is not int or n < 1 for n in tokens) or sum(tokens) != count(document, "rows", file):
        raise StoreDamaged(f"{file} lists records that don't fill its rows.")
    failures = [
        Failure(count(row, "record", file), take(row, "reason", str, file), _sha256(row, file, optional=True))
        for row in rows_of(document, "failures", file)
    ]
    if any(failure.record >= len(ids) for failure in failures):
        raise StoreDamaged(f"{file} lists a failure of no record.")
    return Receipt(
        shard=count(document, "shard", file),
        start=count(document, "start", file),
        rows=count(document, "rows", file),
        ids=tuple(ids),
        tokens=tuple(tokens),
        crc32c=tuple(crcs),
        outliers=count(document, "outliers", file),
        failures=tuple(failures),
        files=tuple(
            FileFact(take(row, "path", str, file), count(row, "bytes", file), _sha256(row, file) or "")
            for row in rows_of(document, "files", file)
        ),
    )


def _sha256(row: dict[str, Any], file: Path, *, optional: bool = False) -> str | None:
    value = row.get("sha256")
    if optional and value is None:
        return None
    if type(value) is not str or len(value) != 64:
        raise StoreDamaged(f"{file} lists a checksum that is none: {value!r:.70}.")
    return value


def files_present(root: Path, receipt: Receipt, expected: Iterable[str]) -> bool:
    """Whether the shard's files are the expected ones, there and of the size that the receipt says.

    Args:
        expected: paths that must be among them; a format may add others (the int8 outliers).
    """
    named = {fact.path for fact in receipt.files}
    return named.issuperset(expected) and all(size_of(inside(root, fact.path)) == fact.bytes for fact in receipt.files)


def crc32c(stored: Stored) -> str:
    """The checksum of one record's stored bytes, the same in every format."""
    value = 0
    for part in (stored.tokens, stored.scale, stored.exact_rows, stored.exact):
        if part is not None and part.size:
            value = google_crc32c.extend(value, np.ascontiguousarray(part).view(np.uint8).reshape(-1))
    return f"{value:08x}"
