"""Where every record will lie, decided before the first one is encoded.

    plan = make_plan(ids, digests, lengths, dim=768, row_bytes=1536)
    plan.shard(3)          # positions (into ids) of the records that shard 3 holds, in order
    plan.start, plan.length

n ids · m distinct records (equal digests are stored once) · K shards of S rows each · one row is one token.
The plan follows from its arguments alone, so processes that never talk to each other agree on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.errors import StoreError
from umecache.stores.fingerprint import digest_array

SHARD_BYTES = 256 << 20
"""Default size of a shard: large enough for few files, small enough to be redone in a minute."""

MAX_ID_BYTES = 1024  # of UTF-8; HDF5 stores ids at the width of the longest

Ids = NDArray[np.int64] | list[str]


@dataclass(frozen=True, eq=False)
class Plan:
    """The layout of one store.

    Attributes:
        ids: int64 [n] or n strings, in the caller's order, all different.
        digests: uint8 [n, 32], what each input is.
        start: int64 [n], first row of each id's record; ids of equal inputs share it.
        length: int64 [n], planned rows; 0 for inputs known to be unreadable.
        record: int64 [n], which distinct record an id has; -1 where its length is 0.
        first: int64 [m], the first id position of each distinct record, in stored order.
        bounds: int64 [K + 1], shard k holds the distinct records bounds[k] to bounds[k + 1].
        used: int64 [K], rows of each shard that hold records; the rest of its S rows stays unwritten.
        dim: D, values per row.
        shard_rows: S.
        chunk_rows: rows of one inner chunk; divides every length, so a record is a whole number of chunks.
        failures: reason by position, for inputs known to be unreadable.
    """

    ids: Ids
    digests: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    record: NDArray[np.int64]
    first: NDArray[np.int64]
    bounds: NDArray[np.int64]
    used: NDArray[np.int64]
    dim: int
    shard_rows: int
    chunk_rows: int
    failures: Mapping[int, str]

    @property
    def shards(self) -> int:
        """K."""
        return len(self.used)

    @property
    def capacity(self) -> int:
        """Rows of the `tokens` array: K × S."""
        return self.shards * self.shard_rows

    @property
    def tokens(self) -> int:
        """Rows that hold records."""
        return int(self.used.sum())

    def shard(self, k: int) -> NDArray[np.int64]:
        """Positions into `ids` of the records of shard k, in stored order."""
        return self.first[self.bounds[k] : self.bounds[k + 1]]

    def facts(self) -> dict[str, Any]:
        """What two processes must agree on, small enough to store beside the claims."""
        places = hashlib.sha256(self.start.tobytes() + self.length.tobytes()).hexdigest()
        return {
            "records": len(self.ids),
            "distinct": len(self.first),
            "tokens": self.tokens,
            "dim": self.dim,
            "shard_rows": self.shard_rows,
            "chunk_rows": self.chunk_rows,
            "shards": np.diff(self.bounds).tolist(),
            "places_sha256": places,
        }


def make_plan(
    ids: Sequence[int] | Sequence[str] | NDArray[np.int64],
    digests: Sequence[str] | NDArray[np.uint8],
    lengths: Sequence[int] | NDArray[np.int64],
    *,
    dim: int,
    row_bytes: int,
    shard_records: int | Sequence[int] | None = None,
    shard_bytes: int = SHARD_BYTES,
    failures: Mapping[int, str] | None = None,
) -> Plan:
    """Deduplicate and lay out.

    Args:
        digests: one hex sha256 per id, or [n, 32] uint8.
        lengths: tokens per id.
        dim: values per token.
        row_bytes: bytes of one stored token.
        shard_records: distinct records per shard, or the exact count of each shard; None: as many as fit `shard_bytes`.
        failures: reasons of inputs that are known to be unreadable, by position; their length is 0.

    Raises:
        StoreError: ids repeat, or the arguments contradict each other.
    """
    ids = _check_ids(ids)
    digest_n = digests if isinstance(digests, np.ndarray) else digest_array(digests)
    length = np.asarray(lengths, np.int64)
    failures = dict(sorted((failures or {}).items()))
    if not len(ids) == len(digest_n) == len(length):
        raise StoreError(f"{len(ids)} ids, {len(digest_n)} digests and {len(length)} lengths don't fit together.")
    if dim < 1 or (length < 0).any():
        raise StoreError("A store needs a width of at least 1 and lengths of at least 0.")
    for position in failures:
        if not 0 <= position < len(ids) or length[position]:
            raise StoreError(f"The failed input at position {position} must exist and have length 0.")

    record = np.full(len(ids), -1, np.int64)
    present = np.flatnonzero(length)
    keys = np.ascontiguousarray(digest_n[present]).view("S32").ravel()
    _, found, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(found, kind="stable")  # distinct records in the order of their first mention
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    record[present] = rank[inverse.ravel()]
    first = present[found[order]]
    unequal = np.flatnonzero(length[present] != length[first][record[present]])
    if unequal.size:
        position = int(present[unequal[0]])
        raise StoreError(
            f"Input {ids[position]!r} has {length[position]} tokens,",
            why=f"but {ids[int(first[record[position]])]!r}, the same input, has {length[first[record[position]]]}.",
        )

    rows_m = length[first]
    bounds = _cut(rows_m, row_bytes, shard_records, shard_bytes)
    ends = np.concatenate([[0], np.cumsum(rows_m)])
    used = np.diff(ends[bounds])
    chunk_rows = int(np.gcd.reduce(rows_m)) if len(rows_m) else 1
    shard_rows = int(used.max(initial=chunk_rows))
    shard_of_m = np.repeat(np.arange(len(used)), np.diff(bounds))
    start_m = shard_of_m * shard_rows + ends[:-1] - ends[bounds[shard_of_m]]
    start = np.where(record >= 0, start_m[record], 0) if len(first) else np.zeros(len(ids), np.int64)
    return Plan(ids, digest_n, start, length, record, first, bounds, used, dim, shard_rows, chunk_rows, failures)


def _check_ids(ids: Sequence[int] | Sequence[str] | NDArray[np.int64]) -> Ids:
    if len(ids) and isinstance(ids[0], str):
        names = [str(name) for name in ids]
        if not all(isinstance(name, str) for name in ids):
            raise StoreError("Ids are all integers or all strings, not both.")
        try:
            longest = max(len(name.encode()) for name in names)
        except UnicodeEncodeError as error:
            raise StoreError("An id holds half a surrogate pair and can't be written as UTF-8.") from error
        if longest > MAX_ID_BYTES:
            raise StoreError(f"An id has {longest} bytes; at most {MAX_ID_BYTES} are allowed.")
        if any("\0" in name for name in names) or "" in names:
            raise StoreError("An id is empty or holds a NUL character.")
        distinct = len(set(names))
        result: Ids = names
    else:
        array = np.asarray(ids if len(ids) else np.empty(0, np.int64))
        if array.ndim != 1 or array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.max() >= 1 << 63):
            raise StoreError("Ids are all integers (int64) or all strings.")
        result = np.ascontiguousarray(array, np.int64)
        distinct = len(np.unique(result))
    if distinct != len(result):
        raise StoreError(f"{len(result) - distinct} ids are there twice.", why="A store is keyed by id.")
    return result


def _cut(
    rows_m: NDArray[np.int64], row_bytes: int, shard_records: int | Sequence[int] | None, shard_bytes: int
) -> NDArray[np.int64]:
    """Bounds [K + 1] of the shards over the distinct records."""
    total = len(rows_m)
    if isinstance(shard_records, Sequence):
        bounds = np.concatenate([[0], np.cumsum(np.asarray(shard_records, np.int64))]).astype(np.int64)
        if bounds[-1] != total or (np.diff(bounds) < 1).any():
            raise StoreError(f"Shards of {list(shard_records)} records don't hold {total} records.")
        return bounds
    if shard_records is not None:
        if shard_records < 1:
            raise StoreError(f"--shard-records is {shard_records}; at least 1 is needed.")
        return np.append(np.arange(0, total, shard_records), total).astype(np.int64)
    limit = max(shard_bytes // row_bytes, 1)
    ends = np.cumsum(rows_m)
    cuts, done = [0], 0
    while cuts[-1] < total:
        # At least one record each, however long it is.
        cuts.append(max(int(np.searchsorted(ends, done + limit, side="right")), cuts[-1] + 1))
        done = int(ends[cuts[-1] - 1])
    return np.asarray(cuts, np.int64)
