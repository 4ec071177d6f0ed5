"""Stores that can't be mapped: compressed ones, and those that plain zarr-python or h5py wrote in another layout.

They are read through the library, so they are right, only slower. Nothing is allocated before it is sure that the files
can justify it: a short file that claims to hold petabytes is damage, not a reason to swap.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.errors import StoreDamaged, StoreError
from umecache.stores.files import inside, size_of, walk
from umecache.stores.rows import Decoded, Rows, Shard
from umecache.stores.zarr_meta import read_array

RATIO = 1024
"""No codec is believed to shrink hidden states more than this."""

SMALL = 64 << 20
"""Bytes that may be allocated on any file's word."""


@contextmanager
def blame(path: Path) -> Iterator[None]:
    """Whatever a library raises over a malformed file becomes StoreDamaged."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # zarr, numcodecs and h5py raise anything from KeyError to RuntimeError
        raise StoreDamaged(
            f"{path} can't be read.",
            why=f"{type(error).__name__}: {str(error)[:200]}",
            next=f"umecache store verify {path}",
        ) from error


def justify(wanted: int, stored: int, path: Path) -> None:
    """Raise StoreDamaged where `wanted` bytes can't come out of `stored` bytes."""
    if wanted > max(SMALL, RATIO * stored):
        raise StoreDamaged(f"{path} claims {wanted} bytes, but its files have only {stored}.")


def zarr_rows(path: Path, name: str) -> Rows:
    """Rows of any Zarr array of the group at `path`, through zarr-python."""
    meta = read_array(path, name, dimensions=2)
    budget = _bytes_below(path / name)
    item = np.dtype(meta.dtype).itemsize
    justify(math.prod(meta.chunk) * item, budget, path / name)
    array: list[Any] = []

    def read(start: int, stop: int) -> NDArray[Any]:
        justify((stop - start) * meta.shape[1] * item, budget, path / name)
        with blame(path / name):
            if not array:
                array.append(_zarr_array(path, name))
            return np.ascontiguousarray(array[0][start:stop])

    def load(k: int) -> Shard:
        return Decoded(meta.shape[0], read)

    return Rows(path, max(meta.shape[0], 1), 1, load, np.empty((0, meta.shape[1]), meta.dtype))


def zarr_vector(path: Path, name: str) -> NDArray[Any]:
    """A whole one-dimensional array, through zarr-python."""
    meta = read_array(path, name, dimensions=1)
    item = 16 if meta.dtype == "string" else np.dtype(meta.dtype).itemsize
    stored = _bytes_below(path / name)
    justify(max(meta.shape[0], *meta.chunk) * item, stored, path / name)
    with blame(path / name):
        return np.asarray(_zarr_array(path, name)[:])


def _zarr_array(path: Path, name: str) -> Any:
    import zarr

    return zarr.open_array(path / name, mode="r", zarr_format=3)


def _bytes_below(folder: Path) -> int:
    total = 0
    for file in walk(folder):
        size = size_of(inside(folder, file))
        if size is None:  # a pipe, say, which a library would wait for
            raise StoreDamaged(f"{folder / file} is no regular file.")
        total += size
    return total


def zstd_chunks(
    buffer: NDArray[np.uint8],
    index: NDArray[np.int64],
    dtype: np.dtype[Any],
    row_shape: tuple[int, ...],
    chunk_rows: int,
    file: Path,
    *,
    strict: Path | None,
) -> Callable[[int, int], NDArray[Any]]:
    """Read rows of a shard whose inner chunks are zstd frames.

    Args:
        index: (offset, bytes) of each chunk, checked against the file; -1 where absent.
        strict: see `rows.arrange`.
    """
    step = chunk_rows * dtype.itemsize * math.prod(row_shape)

    def read(start: int, stop: int) -> NDArray[Any]:
        from numcodecs.zstd import Zstd

        codec = Zstd()
        first, last = start // chunk_rows, -(-stop // chunk_rows)
        spans = index[first:last].tolist()
        if strict is not None and any(offset < 0 for offset, _ in spans):
            raise StoreDamaged(f"{strict} lacks a record that the store lists.")
        for offset, size in spans:
            if offset >= 0 and frame_size(buffer[offset : offset + min(size, 18)].tobytes()) != step:
                raise StoreDamaged(f"{file}: a chunk doesn't decompress to {step} bytes.")
        justify(step * len(spans), sum(max(size, 16) for _, size in spans), file)
        out = np.zeros(step * len(spans), np.uint8)
        with blame(file):
            for i, (offset, size) in enumerate(spans):
                if offset >= 0:
                    codec.decode(buffer[offset : offset + size].tobytes(), out=out[i * step : (i + 1) * step])
        rows = out.view(dtype).reshape(-1, *row_shape)
        return rows[start - first * chunk_rows : stop - first * chunk_rows]

    return read


def frame_size(head: bytes) -> int | None:
    """Content size that a zstd frame declares (RFC 8878, 3.1.1); None where it declares none."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return None
    flag, single = head[4] >> 6, (head[4] >> 5) & 1
    size = (1 if single else 0, 2, 4, 8)[flag]
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[head[4] & 3]
    if not size or len(head) < at + size:
        return None
    return int.from_bytes(head[at : at + size], "little") + (256 if size == 2 else 0)


def open_h5(path: Path) -> Any:
    """An HDF5 file for reading, with the library's own locking where that works.

    libhdf5 refuses to open a file twice in one process with different locking, so the default comes first (it is what
    a user's own h5py.File has); without locks it works on file systems that have none.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError:
        return h5py.File(path, "r", locking=False)


class H5File:
    """An HDF5 file opened per process: libhdf5's handles don't survive a fork."""

    def __init__(self, path: Path) -> None:
        self._path, self._open = path, (-1, None)

    def __call__(self) -> Any:
        """The h5py file, open for reading."""
        pid, file = self._open
        if pid != os.getpid():
            file = open_h5(self._path)
            self._open = (os.getpid(), file)
        return file


def h5_rows(file: Path, name: str, capacity: int, dim: int, stored: int) -> Shard:
    """Rows of any HDF5 dataset [capacity, D], through h5py.

    Args:
        stored: bytes of the file or files behind it.
    """
    handle = H5File(file)

    def read(start: int, stop: int) -> NDArray[Any]:
        with blame(file):
            dataset = handle()[name]
            justify((stop - start) * dim * dataset.dtype.itemsize, stored, file)
            return np.ascontiguousarray(dataset[start:stop])

    return Decoded(capacity, read)
