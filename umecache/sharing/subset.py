"""Some ids of a remote store, and hardly more bytes than theirs: a store of its own, which says what it is a part of.

    umecache store pull hf://datasets/ORG/NAME vqa-v2/vit-few --split val --ids few.txt

The lists of ids and places and the receipts come first. Where rows lie plainly in the files, at byte
row * D * itemsize (docs/store-format.md), only the wanted ranges are asked for; each record is compared with the
checksum in its receipt, so that a layout that is otherwise shows. Then, and under compression, the shard comes whole.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.reporting import Reporter
from umecache.sharing.fetch import Progress, fetch_all, in_parallel
from umecache.sharing.listing import Listing, read_listing
from umecache.sharing.pull import Moved, forget_others, staged
from umecache.sharing.remotes import Remote, RemoteFailed, read_ranges
from umecache.stores.commit import is_sealed
from umecache.stores.dtypes import Stored, stored_dtype
from umecache.stores.errors import StoreDamaged, StoreError, StoreMismatch
from umecache.stores.foreign import blame
from umecache.stores.reader import Store, open_store
from umecache.stores.receipts import Receipt, crc32c, read_receipt, receipt_name
from umecache.stores.repair import writer_arguments
from umecache.stores.shard import ShardWriter
from umecache.stores.writer import Writer, open_writer

GAP = 4096  # bytes between two ranges that are rather read than asked for separately
REQUEST = 8 << 20  # bytes of one request
HEADER = 1 << 12  # bytes of an HDF5 file that are read at a time to find where its rows begin


@dataclass(frozen=True, slots=True)
class Record:
    """One wanted record: its first row in the source and its tokens."""

    start: int
    length: int


def pull_ids(
    remote: Remote,
    target: Path,
    ids: Sequence[int] | Sequence[str],
    *,
    dry_run: bool,
    jobs: int,
    reporter: Reporter,
) -> Moved:
    """A store of just these ids, in the order of the source.

    Raises:
        UnknownId: the source lacks one.
        StoreError: as `pull`.
    """
    with staged(target, dry_run=dry_run) as staging:
        listing = read_listing(remote, staging)
        forget_others(staging, listing)
        with reporter.task(f"pull {target.name}: lists", None, "MB") as task:
            progress = Progress(task)
            fetch_all(remote, listing.wanted(listing.small()), staging, progress, jobs)
            store = Store(staging, lenient=True)
            rows = np.unique(store.rows(ids))
            arguments = _arguments(store, rows)
            shards = sorted(set((store.starts[rows] // listing.manifest["layout"]["shard_rows"]).tolist()))
            fetch_all(remote, listing.wanted([receipt_name(k) for k in shards]), staging, progress, jobs)
        receipts = {k: read_receipt(staging, k) for k in shards}
        if is_sealed(target):
            return _there(remote, target, store, ids)
        if dry_run:
            planned = int(arguments["lengths"].sum()) * store.dim * stored_dtype(store.dtype).itemsize
            return Moved(remote.url, str(target), len(shards), planned, 0, len(rows), store.fingerprint, True)
        writer = open_writer(target, **arguments)
        with reporter.task(f"pull {target.name}", writer.bytes / 1e6, "MB") as task:
            data = Progress(task)
            source = Source(remote, listing, store, receipts, staging, data, jobs)
            done = writer.finished_records
            for shard in writer.claim():
                with shard:
                    source.copy(writer, shard, rows)
            facts = writer.seal()
        n = progress.bytes + data.bytes
        there = 0 if not done else facts["bytes"] - n
        return Moved(remote.url, str(target), len(shards), n, max(there, 0), len(rows), facts["fingerprint"], True)


def _arguments(store: Store, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What `open_writer` needs for the rows' records, in shards of the usual size."""
    whole = writer_arguments(store)
    new = {int(row): i for i, row in enumerate(rows)}
    facts = {**whole["manifest"], "subset": {"of": store.fingerprint, "records": len(store)}}
    ids = store.ids_at(rows.tolist())
    return {
        **whole,
        "manifest": facts,
        "ids": ids if isinstance(store.ids, list) else np.asarray(ids, np.int64),
        "digests": whole["digests"][rows],
        "lengths": whole["lengths"][rows],
        "shard_records": None,
        "failures": {new[row]: reason for row, reason in whole["failures"].items() if row in new},
    }


def _there(remote: Remote, target: Path, store: Store, ids: Sequence[Any]) -> Moved:
    """The account of a target that is complete; refused where it is something else."""
    found = open_store(target)
    part = found.manifest.get("subset")
    if (
        not isinstance(part, Mapping)
        or part.get("of") != store.fingerprint
        or set(found.ids_at(range(len(found)))) != set(ids)
    ):
        raise StoreMismatch(
            f"{target} is taken.", why="It holds another store, or other ids.", next="Name another folder."
        )
    size = int(found.lengths.sum()) * found.dim * stored_dtype(found.dtype).itemsize
    return Moved(remote.url, str(target), 0, 0, size, len(found), found.fingerprint, True)


class Source:
    """Records of the remote store, checked one by one.

    Args:
        store: opened over the staged lists, without its shards.
        receipts: of the shards that hold wanted records.
        staging: where whole shards go, if they must come.
    """

    def __init__(
        self,
        remote: Remote,
        listing: Listing,
        store: Store,
        receipts: Mapping[int, Receipt],
        staging: Path,
        progress: Progress,
        jobs: int,
    ) -> None:
        self._remote, self._listing, self._store, self._receipts = remote, listing, store, receipts
        self._staging, self._progress, self._jobs = staging, progress, jobs
        self._shard_rows: int = listing.manifest["layout"]["shard_rows"]
        self._probed = False
        self._bases: dict[int, dict[str, tuple[str, int]] | None] = {}
        # first row -> checksum and failure of the record that lies there
        self._crc: dict[int, str | None] = {}
        self._failed: dict[int, tuple[str, str | None]] = {}
        for receipt in receipts.values():
            starts = receipt.start + np.cumsum((0, *receipt.tokens[:-1]))
            self._crc.update(zip(starts.tolist(), receipt.crc32c, strict=True))
            self._failed |= {int(starts[f.record]): (f.reason, f.sha256) for f in receipt.failures}

    def copy(self, writer: Writer, shard: ShardWriter, rows: NDArray[np.int64]) -> None:
        """Fill one shard of the target.

        Args:
            rows: the source's position of each of the target's ids.
        """
        wanted: dict[int, list[tuple[int, Record]]] = {}
        for position in shard.records:
            start = int(self._store.starts[rows[position]])
            if start in self._failed:
                shard.fail(position, *self._failed[start])
                continue
            record = Record(start, int(writer.plan.length[position]))
            wanted.setdefault(start // self._shard_rows, []).append((position, record))
        if wanted and not self._probed:
            # One byte tells whether the remote knows ranges; else each record would bring all that lies before it.
            next(iter(self._remote.stream(self._listing.shard(min(wanted))[0], 0, 1)), b"")
            self._probed = True
        for first in range(0, len(wanted), self._jobs):  # so many shards' records are in memory at once
            some = list(wanted.items())[first : first + self._jobs]
            work = [partial(self._read, k, [record for _, record in records]) for k, records in some]
            for (_, records), found in zip(some, in_parallel(work, self._progress, self._jobs), strict=True):
                for (position, _), stored in zip(records, found, strict=True):
                    shard.write_stored(position, stored)

    def _read(self, k: int, records: Sequence[Record]) -> list[Stored]:
        """Records of shard k of the source, by their ranges if possible."""
        if k not in self._bases:
            self._bases[k] = _places(self._remote, self._listing, self._receipts[k])
        places = self._bases[k]
        if places is not None:
            try:
                found = self._ranges(places, k, records)
            except RemoteFailed:
                if self._remote.ranged:
                    raise
            else:
                if all(self._sound(each, stored) for each, stored in zip(records, found, strict=True)):
                    return found
        self._bases[k] = None
        fetch_all(self._remote, self._listing.wanted(self._listing.shard(k)), self._staging, self._progress, self._jobs)
        found = [self._store.stored(each.start, each.length) for each in records]
        for each, stored in zip(records, found, strict=True):
            if not self._sound(each, stored):
                raise StoreDamaged(
                    f"{self._remote.url}: the record at row {each.start} differs from its checksum.",
                    next="Repair that store where it came from, then pull again.",
                )
        return found

    def _sound(self, record: Record, stored: Stored) -> bool:
        return crc32c(stored) == self._crc.get(record.start)

    def _ranges(self, places: Mapping[str, tuple[str, int]], k: int, records: Sequence[Record]) -> list[Stored]:
        dtype, dim = stored_dtype(self._store.dtype), self._store.dim
        tokens = self._rows(places["tokens"], dtype.itemsize * dim, k, records)
        scales = self._rows(places["scale"], 4, k, records) if "scale" in places else [None] * len(records)
        nothing = (np.empty(0, np.int64), np.empty((0, dim), np.float32))
        return [
            Stored(
                np.frombuffer(raw, dtype).reshape(each.length, dim),
                None if scale is None else np.frombuffer(scale, "<f4"),
                *(nothing if scale is not None else (None, None)),
            )
            for each, raw, scale in zip(records, tokens, scales, strict=True)
        ]

    def _rows(self, place: tuple[str, int], row_bytes: int, k: int, records: Sequence[Record]) -> list[bytes]:
        """The bytes of each record's rows of one array; neighbours are asked for together."""
        name, base = place
        first = base - k * self._shard_rows * row_bytes
        spans = [(first + each.start * row_bytes, first + (each.start + each.length) * row_bytes) for each in records]
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            if merged and start - merged[-1][1] <= GAP and stop - merged[-1][0] <= REQUEST:
                merged[-1] = merged[-1][0], max(stop, merged[-1][1])
            else:
                merged.append((start, stop))

        def ask(span: tuple[int, int]) -> bytes:
            (data,) = read_ranges(self._remote, name, [span])
            self._progress.add(len(data))
            if not self._remote.ranged:
                raise RemoteFailed(f"{self._remote.url} sends only whole files.")
            return data

        work = [partial(ask, span) for span in merged]
        data = dict(zip(merged, in_parallel(work, self._progress, self._jobs), strict=True))
        starts = np.array([start for start, _ in merged])
        found = []
        for start, stop in spans:
            span = merged[int(np.searchsorted(starts, start, "right")) - 1]
            found.append(data[span][start - span[0] : stop - span[0]])
        return found


def _places(remote: Remote, listing: Listing, receipt: Receipt) -> dict[str, tuple[str, int]] | None:
    """File and byte where row 0 of the shard's arrays lies; None where only the whole shard will do."""
    manifest, k = listing.manifest, receipt.shard
    if manifest["compression"] is not None or receipt.outliers:
        return None
    if not remote.ranged:
        return None
    names = ["tokens", "scale"] if manifest["dtype"] == "int8" else ["tokens"]
    if manifest["format"] == "zarr":
        paths = {"tokens": f"tokens/c/{k}/0", "scale": f"scale/c/{k}"}
        return {name: (paths[name], 0) for name in names}
    if manifest["format"] != "hdf5":  # a plug-in's, whose places only it knows
        return None
    (path,) = listing.shard(k)
    try:
        offsets = _hdf5_offsets(remote, path, listing.sizes[path], names)
    except (StoreError, RemoteFailed):
        return None
    return None if offsets is None else {name: (path, offset) for name, offset in offsets.items()}


def _hdf5_offsets(remote: Remote, path: str, size: int, names: Sequence[str]) -> dict[str, int] | None:
    """Where contiguous datasets of a remote HDF5 file begin, by reading its header alone."""
    import h5py

    found = {}
    with blame(Path(path)), h5py.File(_Window(remote, path, size), "r") as file:
        for name in names:
            offset = file[name].id.get_offset()
            if offset is None or file[name].external:
                return None
            found[name] = int(offset)
    return found


class _Window(io.RawIOBase):
    """A remote object as a file that can be read anywhere; blocks are fetched once, when they are first touched."""

    def __init__(self, remote: Remote, name: str, size: int) -> None:
        self._remote, self._name, self._size, self._at = remote, name, size, 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._size:
            k, inside = divmod(self._at, HEADER)
            if k not in self._blocks:
                span = (k * HEADER, min((k + 1) * HEADER, self._size))
                (self._blocks[k],) = read_ranges(self._remote, self._name, [span])
            part = self._blocks[k][inside : inside + len(view) - done]
            view[done : done + len(part)] = part
            done, self._at = done + len(part), self._at + len(part)
        return done
