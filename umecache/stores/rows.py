"""Rows of a sharded array, found by byte position: the core that Zarr and HDF5 readers share.

    rows = Rows(path, shard_rows=36928, shards=12, load=load)   # load(k) looks a shard up in the format's own index
    rows.read(start, n)                                     # [n, D] view of the memory map, no copy

A shard is one of: a plain array (its chunks lie one behind the other: checked when it is loaded, once), a `ChunkTable`
(uncompressed, but in some other order, or with gaps), or a `Decoded` (compressed; rows pass through the codec).

Letters: S rows of a shard, c rows of a chunk, D values of a row.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from umecache.stores.errors import StoreDamaged
from umecache.stores.supply import Supply, supplied

COLD = 1.5e9
"""Bytes per second below which records came from the disk: then the next ones are asked for before they are copied, so
that the disk reads them side by side and in large pieces (five to eight times as fast as faulting in page by page).
While pages are in memory it would only cost: a fifth of the speed."""

MAX_MAPS = 512
"""Shards mapped at once by one array; each holds a file descriptor. The oldest is let go first."""


class Shard(Protocol):
    """What `load` returns: something with a length that gives rows for a slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


class Rows:
    """Random access to [capacity, D] without copying.

    Args:
        path: the store, for errors.
        shard_rows: S; a record never crosses a multiple of it.
        shards: how many there are.
        load: makes shard k readable; raises StoreDamaged.
        empty: what a record of no rows looks like, [0, D].
    """

    def __init__(
        self, path: Path, shard_rows: int, shards: int, load: Callable[[int], Shard], empty: NDArray[Any]
    ) -> None:
        self._path, self._shard_rows, self._shards, self._load = path, shard_rows, shards, load
        self._empty = empty
        self._views: dict[int, Shard] = {}
        self._maps: dict[int, tuple[mmap.mmap, int]] = {}  # of plain shards: map of the file, byte of the first row
        self._row_bytes = empty.dtype.itemsize * math.prod(empty.shape[1:])
        self._cold = True  # until a record shows otherwise
        self._supply: Supply | None = None

    def supply_from(self, supply: Supply) -> None:
        """From now on have every shard brought before it is loaded."""
        self._supply, self._load = supply, supplied(supply, self._load)

    def read(self, start: int, n: int) -> NDArray[Any]:
        """Rows `start` to `start + n`.

        Raises:
            StoreDamaged: they lie outside the stored rows, or their shard is damaged.
        """
        if n == 0:
            return self._empty
        k = start // self._shard_rows
        view = self._views.get(k)
        if view is None:
            view = self._open(k)
        row = start - k * self._shard_rows
        if n < 0 or row + n > len(view):
            raise self._outside(start, n, k)
        return view[row : row + n]

    def _outside(self, start: int, n: int, k: int) -> StoreDamaged:
        return StoreDamaged(
            f"{self._path} places a record at rows {start} to {start + n}, outside shard {k}.",
            next=f"umecache store verify {self._path}",
        )

    def gather(self, start_B: NDArray[np.int64], length_B: NDArray[np.int64], out_BTD: NDArray[Any]) -> None:
        """Copy records into the rows of a padded batch and zero what is behind each; `read` for B records at once.

        Args:
            out_BTD: T at least the longest record.

        Raises:
            StoreDamaged: as `read`.
        """
        views, size, width = self._views, self._shard_rows, out_BTD.shape[1]
        shard_B, row_B = np.divmod(start_B, size)
        places = list(zip(out_BTD, shard_B.tolist(), row_B.tolist(), length_B.tolist(), strict=True))
        if self._supply is not None:
            shards = dict.fromkeys(k for _, k, _, n in places if n)
            self._supply.need([k for k in shards if k not in views])  # side by side
            self._supply.use(shards)
        started, asked = time.perf_counter(), False
        for number, (out_TD, k, row, n) in enumerate(places):
            if number == 1 and self._cold:
                # After slow batches the first record tells whether the rest has to come from the disk too.
                asked = places[0][3] * self._row_bytes < COLD * (time.perf_counter() - started)
                for _, *place in places[1:] if asked else ():
                    self._ask_for(*place)
            if n:
                view = views.get(k)
                if view is None:
                    view = self._open(k)
                if row + n > len(view):
                    raise self._outside(k * size + row, n, k)
                out_TD[:n] = view[row : row + n]
            if n < width:
                out_TD[n:] = 0
        self._cold = asked or int(length_B.sum()) * self._row_bytes < COLD * (time.perf_counter() - started)

    def _ask_for(self, k: int, row: int, n: int) -> None:
        """Have the system read a record's pages; returns at once, and does nothing for what can't be mapped."""
        if n and k not in self._views:
            self._open(k)
        found = self._maps.get(k)
        if found is None or not n or not hasattr(mmap, "MADV_WILLNEED"):
            return
        file, first = found
        start = first + row * self._row_bytes
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError, ValueError):  # only a hint; the copy will tell what is wrong
            file.madvise(mmap.MADV_WILLNEED, page, start + n * self._row_bytes - page)

    def shard(self, k: int) -> Shard:
        """Shard k as a whole."""
        view = self._views.get(k)
        return self._open(k) if view is None else view

    def _open(self, k: int) -> Shard:
        if not 0 <= k < self._shards:
            raise StoreDamaged(f"{self._path} places a record in shard {k}; it has {self._shards} shards.")
        view = self._load(k)
        if self._supply is not None:  # a map of a shard that was let go would keep it on the disk
            for gone in [each for each in list(self._views) if not self._supply.holds(each)]:
                self._forget(gone)
        while len(self._views) >= MAX_MAPS:
            self._forget(next(iter(self._views)))
        # Two threads may both load the same shard: harmless, the views are equal.
        self._views[k] = view
        if isinstance(view, np.ndarray) and (found := _map_of(view)) is not None:
            self._maps[k] = found
        return view

    def _forget(self, k: int) -> None:
        self._views.pop(k, None)
        self._maps.pop(k, None)


def _map_of(view: NDArray[Any]) -> tuple[mmap.mmap, int] | None:
    """The map that an array looks into, and the array's byte in it; None where it has memory of its own."""
    owner: Any = view
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if not isinstance(owner, mmap.mmap):
        return None
    return owner, int(view.ctypes.data) - int(np.frombuffer(owner, np.uint8).ctypes.data)


def arrange(
    buffer: NDArray[np.uint8],
    dtype: np.dtype[Any],
    row_shape: tuple[int, ...],
    chunk_rows: int,
    offset: NDArray[np.int64],
    *,
    strict: Path | None,
) -> Shard:
    """The fastest shard that is right for uncompressed chunks at these byte offsets.

    Args:
        buffer: the mapped file; every chunk must lie inside it (the caller has checked).
        row_shape: shape of one row: (D,), or () for one number per row.
        offset: byte offset of each chunk, -1 where it is absent.
        strict: the file's path where reading an absent chunk means damage; None where it reads as zeros, as Zarr says.
    """
    step = chunk_rows * dtype.itemsize * math.prod(row_shape)
    n = len(offset)
    if n and offset[0] >= 0 and np.array_equal(offset, offset[0] + step * np.arange(n)):
        raw = buffer[int(offset[0]) : int(offset[0]) + n * step]
        return raw.view(dtype).reshape(n * chunk_rows, *row_shape)
    return ChunkTable(buffer, dtype, row_shape, chunk_rows, offset, strict)


class ChunkTable:
    """Uncompressed chunks in any order: a view where a span's chunks follow each other, else a copy."""

    def __init__(
        self,
        buffer: NDArray[np.uint8],
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...],
        chunk_rows: int,
        offset: NDArray[np.int64],
        strict: Path | None,
    ) -> None:
        self._buffer, self._dtype, self._row_shape, self._chunk_rows = buffer, dtype, row_shape, chunk_rows
        self._offset, self._strict = offset, strict
        self._row_bytes = dtype.itemsize * math.prod(row_shape)

    def __len__(self) -> int:
        return len(self._offset) * self._chunk_rows

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        first, last = rows.start // self._chunk_rows, -(-rows.stop // self._chunk_rows)
        n, step = rows.stop - rows.start, self._chunk_rows * self._row_bytes
        span = self._offset[first:last]
        skip = (rows.start - first * self._chunk_rows) * self._row_bytes
        if len(span) and span[0] >= 0 and (len(span) == 1 or (np.diff(span) == step).all()):
            begin = int(span[0]) + skip
            raw = self._buffer[begin : begin + n * self._row_bytes]
        else:
            if self._strict is not None and (span < 0).any():
                raise StoreDamaged(f"{self._strict} lacks a record that the store lists.")
            parts = [self._buffer[at : at + step] if at >= 0 else np.zeros(step, np.uint8) for at in span.tolist()]
            raw = np.concatenate([*parts, np.empty(0, np.uint8)])[skip : skip + n * self._row_bytes]
        return raw.view(self._dtype).reshape(n, *self._row_shape)


class Decoded:
    """Rows behind a codec: every read decodes."""

    def __init__(self, rows: int, read: Callable[[int, int], NDArray[Any]]) -> None:
        self._rows, self._read = rows, read

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        return self._read(rows.start, rows.stop)


class SparseRows:
    """The few rows of a shard that exist (int8 outliers), by row number.

    Args:
        row: int64, sorted, within the shard.
        offset: byte offset of each.
    """

    def __init__(
        self,
        buffer: NDArray[np.uint8],
        dtype: np.dtype[Any],
        dim: int,
        row: NDArray[np.int64],
        offset: NDArray[np.int64],
    ) -> None:
        self._buffer, self._dtype, self._dim, self._row, self._offset = buffer, dtype, dim, row, offset

    def __len__(self) -> int:
        return len(self._row)

    def find(self, start: int, n: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Rows of the shard in [start, start + n) that exist, counted from `start`, and their values [m, D]."""
        first, last = np.searchsorted(self._row, (start, start + n))
        size = self._dim * self._dtype.itemsize
        values = [self._buffer[at : at + size].view(self._dtype) for at in self._offset[first:last].tolist()]
        return self._row[first:last] - start, np.array(values, self._dtype).reshape(-1, self._dim)


class Outliers:
    """The outliers of each shard, looked up once: int8 keeps these tokens as float32.

    Args:
        load: of shard k; None where it has none.
    """

    def __init__(self, load: Callable[[int], SparseRows | None]) -> None:
        self._load = load
        self._shards: dict[int, SparseRows | None] = {}
        self._supply: Supply | None = None

    def supply_from(self, supply: Supply) -> None:
        """As `Rows.supply_from`."""
        self._supply, self._load = supply, supplied(supply, self._load)

    def __call__(self, k: int) -> SparseRows | None:
        if k not in self._shards:
            found = self._load(k)
            if self._supply is not None:  # a map of what was let go would keep it on the disk
                for each in [each for each in list(self._shards) if not self._supply.holds(each)]:
                    self._shards.pop(each, None)
            self._shards[k] = found
            return found
        return self._shards[k]
