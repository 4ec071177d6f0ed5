"""The HDF5 format: one file per shard and an index, all of which h5py opens as they are.

    h5py.File(path / "index.h5")["tokens"][start:start + length]

index.h5             `ids`, `start`, `length`, `digest`, and `tokens` [capacity, D]: a virtual dataset over the shards.
                     HDF5 reads the rows of a missing shard as zeros, silently: open_store checks every shard first.
shards/000003.h5     `tokens` [rows, D] contiguous: row r lies at the dataset's offset + r * D * itemsize
scale, exact         int8 only, see dtypes.py; `exact` is chunked by row, rows that are no outliers are absent

Files hold no timestamps and are written for libhdf5 1.10 and later, so equal facts give equal bytes.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.dtypes import DECODE, Stored, stored_dtype
from umecache.stores.errors import StoreDamaged
from umecache.stores.files import fsync_dir, inside, map_file, size_of, view_array, write_all
from umecache.stores.foreign import blame, h5_rows, justify, open_h5
from umecache.stores.formats import Columns, ShardShape, Sink
from umecache.stores.plan import Ids, Plan
from umecache.stores.rows import Outliers, Rows, Shard, SparseRows, arrange

INDEX = "index.h5"
LIBVER = ("v110", "v110")
GZIP_LEVEL = 4


class Hdf5Format:
    """See the module."""

    name = "hdf5"
    compressions = (None, "gzip")

    def detect(self, path: Path) -> bool:
        try:
            file = _index_file(path)
            if size_of(file) is None:  # to open a pipe would be to wait for ever
                return False
            with file.open("rb") as opened:
                return opened.read(8) == b"\x89HDF\r\n\x1a\n"
        except (OSError, StoreDamaged):
            return False

    def shard_files(self, k: int, dtype: str) -> list[str]:
        return [f"shards/{k:06d}.h5"]

    def sink(self, folder: Path, shape: ShardShape) -> Sink:
        return Hdf5Sink(folder, shape)

    def index_files(
        self,
        plan: Plan,
        length: NDArray[np.int64],
        *,
        dtype: str,
        compression: str | None,
        files: Sequence[Sequence[str]],
        scratch: Path,
    ) -> Mapping[str, bytes]:
        import h5py

        # In memory: libhdf5 copes badly with a disk that fills up under an open file.
        with _create("index", align=64, driver="core", backing_store=False) as file:
            if isinstance(plan.ids, list):
                names = np.array([name.encode() for name in plan.ids])
                kind = h5py.string_dtype("utf-8", max(names.dtype.itemsize, 1))
                file.create_dataset("ids", data=names.astype(kind))
            else:
                file.create_dataset("ids", data=plan.ids.astype("<i8"))
            file.create_dataset("start", data=plan.start.astype("<i8"))
            file.create_dataset("length", data=length.astype("<i8"))
            file.create_dataset("digest", data=plan.digests)
            _virtual(file, "tokens", stored_dtype(dtype), plan, (plan.dim,))
            file["tokens"].attrs.create("decode", DECODE[dtype], dtype=h5py.string_dtype("utf-8", len(DECODE[dtype])))
            if dtype == "int8":
                _virtual(file, "scale", np.dtype("<f4"), plan, ())
                _virtual(file, "exact", np.dtype("<f4"), plan, (plan.dim,))
            file.flush()
            return {INDEX: file.id.get_file_image()}

    def columns(self, path: Path, manifest: Mapping[str, Any] | None) -> Columns:
        index = _index_file(path)
        buffer = map_file(index)
        with blame(index), open_h5(index) as file:
            start, length = (_vector(file, name, buffer, index) for name in ("start", "length"))
            names = _dataset(file, "ids", index)
            n_ids, text = names.shape, names.dtype.kind not in "iu"
            shape = _dataset(file, "tokens", index).shape
            found = _dataset(file, "tokens", index).dtype
            digest = _located(file, "digest", buffer, index) if manifest and "digest" in file else None
        if digest is not None and (digest.shape != (len(start), 32) or digest.dtype != np.uint8):
            raise StoreDamaged(f"{index}: the digests are not 32 bytes for each id.")
        if len(shape) != 2 or start.shape != length.shape or n_ids != start.shape:
            raise StoreDamaged(f"{index}: ids, start, length and tokens have shapes that don't fit together.")
        dtype = manifest["dtype"] if manifest else found.name

        def load_ids() -> Ids:
            with blame(index), open_h5(index) as opened:
                if not text:
                    return _vector(opened, "ids", map_file(index), index)
                values = _dataset(opened, "ids", index)
                justify(values.size * max(values.dtype.itemsize, 16), size_of(index) or 0, index)
                return [str(value) for value in values.asstr()[:]]

        if manifest is None:
            tokens = _foreign(index, shape, found)
            return Columns(
                load_ids, start, length, lambda: None, shape[0], shape[1], dtype, tokens, None, None, max(shape[0], 1)
            )
        if found != stored_dtype(dtype):
            raise StoreDamaged(f"{index} holds {found.name}; the manifest says {stored_dtype(dtype).name}.")
        layout = manifest["layout"]
        rows, used = layout["shard_rows"], [shard["rows"] for shard in layout["shards"]]
        if shape[0] != layout["capacity"]:
            raise StoreDamaged(f"{index} has {shape[0]} rows; the manifest says {layout['capacity']}.")
        tokens = _rows(path, "tokens", stored_dtype(dtype), (shape[1],), rows, used)
        scale = _rows(path, "scale", np.dtype("<f4"), (), rows, used) if dtype == "int8" else None
        outliers = _outliers(path, shape[1]) if dtype == "int8" else None
        return Columns(
            load_ids, start, length, lambda: digest, shape[0], shape[1], dtype, tokens, scale, outliers, rows
        )


def _index_file(path: Path) -> Path:
    return path if path.is_file() else inside(path, INDEX)


def _create(path: Path | str, *, align: int, **driver: Any) -> Any:
    import h5py

    return h5py.File(path, "w", libver=LIBVER, alignment_threshold=64, alignment_interval=align, **driver)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """libhdf5 hides the system's error number in the text of whatever it raises."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = re.search(r"errno = (\d+)", str(error))
        if found is None or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def _contiguous(file: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Reserve a contiguous dataset and return its byte offset."""
    from h5py import h5d, h5p, h5s, h5t

    options = h5p.create(h5p.DATASET_CREATE)
    options.set_layout(h5d.CONTIGUOUS)
    options.set_alloc_time(h5d.ALLOC_TIME_EARLY)  # the place exists now and rows are written to it directly
    options.set_fill_time(h5d.FILL_TIME_NEVER)
    options.set_obj_track_times(False)
    space = h5s.create_simple(shape)
    return int(h5d.create(file.id, name.encode(), h5t.py_create(dtype), space, options).get_offset())


def _virtual(file: Any, name: str, dtype: np.dtype[Any], plan: Plan, row_shape: tuple[int, ...]) -> None:
    from h5py import h5d, h5p, h5s, h5t

    options = h5p.create(h5p.DATASET_CREATE)
    options.set_fill_value(np.zeros((), dtype))
    options.set_obj_track_times(False)
    if plan.shards:
        options.set_layout(h5d.VIRTUAL)
    zeros = (0,) * len(row_shape)
    for k, used in enumerate(plan.used.tolist()):
        place = h5s.create_simple((plan.capacity, *row_shape))
        place.select_hyperslab((k * plan.shard_rows, *zeros), (used, *row_shape))
        source = h5s.create_simple((used, *row_shape))
        options.set_virtual(place, f"shards/{k:06d}.h5".encode(), name.encode(), source)
    space = h5s.create_simple((plan.capacity, *row_shape))
    h5d.create(file.id, name.encode(), h5t.py_create(dtype), space, options)


class Hdf5Sink:
    """One shard: h5py lays the file out, rows go straight to their byte positions."""

    def __init__(self, folder: Path, shape: ShardShape) -> None:
        self._folder, self._shape = folder, shape
        self._dtype = stored_dtype(shape.dtype)
        self._row_bytes = self._dtype.itemsize * shape.dim
        self._scale = np.zeros(shape.rows, "<f4") if shape.dtype == "int8" else None
        self._scale_at = self._offset = 0
        self._exact: list[tuple[int, bytes]] = []
        self._present = np.zeros(shape.rows // shape.chunk_rows, bool)
        self._path = folder / "shard.h5"
        body = self._path
        if shape.compression is None:
            with _disk(self._path), _create(self._path, align=4096) as file:
                self._offset = _contiguous(file, "tokens", self._dtype, (shape.rows, shape.dim))
                if self._scale is not None:
                    self._scale_at = _contiguous(file, "scale", np.dtype("<f4"), (shape.rows,))
        else:
            body = folder / "body"
        self._fd = os.open(body, os.O_RDWR | os.O_CREAT, 0o666)

    def put(self, row: int, stored: Stored) -> None:
        write_all(self._fd, stored.tokens, self._offset + row * self._row_bytes)
        n, chunk = len(stored.tokens), self._shape.chunk_rows
        self._present[row // chunk : (row + n) // chunk] = True
        if self._scale is not None and stored.scale is not None:
            self._scale[row : row + n] = stored.scale
        if stored.exact_rows is not None and stored.exact is not None:
            self._exact += [(row + int(at), x.tobytes()) for at, x in zip(stored.exact_rows, stored.exact, strict=True)]

    def finish(self) -> dict[str, Path]:
        if self._shape.compression is not None:
            self._compress()
        elif self._scale is not None:
            write_all(self._fd, self._scale, self._scale_at)
        if self._exact or self._shape.compression is not None:
            self._write_exact()
        os.fsync(self._fd)
        self.close()
        fsync_dir(self._folder)
        return {f"shards/{self._shape.k:06d}.h5": self._path}

    def _compress(self) -> None:
        shape = self._shape
        step = shape.chunk_rows * self._row_bytes
        with _disk(self._path), _create(self._path, align=1) as file:
            tokens = file.create_dataset(
                "tokens",
                shape=(shape.rows, shape.dim),
                chunks=(shape.chunk_rows, shape.dim),
                dtype=self._dtype,
                compression="gzip",
                compression_opts=GZIP_LEVEL,
                fillvalue=0,
            )
            for i in np.flatnonzero(self._present).tolist():
                data = zlib.compress(os.pread(self._fd, step, i * step), GZIP_LEVEL)
                tokens.id.write_direct_chunk((i * shape.chunk_rows, 0), data)
            if self._scale is not None:
                file.create_dataset("scale", data=self._scale)
        os.close(self._fd)
        (self._folder / "body").unlink()
        self._fd = os.open(self._path, os.O_RDWR)

    def _write_exact(self) -> None:
        import h5py

        if not self._exact:
            return
        self._exact.sort()
        shape = (self._shape.rows, self._shape.dim)
        with _disk(self._path), h5py.File(self._path, "r+", libver=LIBVER) as file:
            exact = file.create_dataset("exact", shape=shape, chunks=(1, shape[1]), dtype="<f4", fillvalue=0)
            for row, raw in self._exact:
                exact.id.write_direct_chunk((row, 0), raw)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _dataset(file: Any, name: str, path: Path) -> Any:
    """A dataset that lies in this very file: no soft or external link, no external storage."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise StoreDamaged(f"{path} has no dataset {name!r} of its own.")
    if file[name].external:
        raise StoreDamaged(f"{path}: the dataset {name!r} keeps its values outside the store.")
    return file[name]


def _located(file: Any, name: str, buffer: NDArray[np.uint8], path: Path) -> NDArray[Any] | None:
    """A mapped view of a contiguous dataset; None where it is laid out otherwise."""
    data = _dataset(file, name, path)
    offset = data.id.get_offset()
    if offset is None or data.dtype.kind not in "iuf" or data.dtype.byteorder == ">":
        return None
    count = 1
    for size in data.shape:  # Python integers: no overflow
        count *= int(size)
    return view_array(buffer, data.dtype, count, offset, path).reshape(data.shape)


def _vector(file: Any, name: str, buffer: NDArray[np.uint8], path: Path) -> NDArray[np.int64]:
    data = _dataset(file, name, path)
    if len(data.shape) != 1 or data.dtype.kind not in "iu" or data.is_virtual:
        raise StoreDamaged(f"{path}: {name!r} is no list of integers.")
    found = _located(file, name, buffer, path)
    if found is not None and found.dtype == np.dtype("<i8"):
        return found
    justify(data.size * 8, data.id.get_storage_size(), path)
    return np.ascontiguousarray(data[:], np.int64)


def _rows(
    path: Path, name: str, dtype: np.dtype[Any], row_shape: tuple[int, ...], shard_rows: int, used: list[int]
) -> Rows:
    def load(k: int) -> Shard:

        path_k = inside(path, f"shards/{k:06d}.h5")
        buffer = map_file(path_k)
        with blame(path_k), open_h5(path_k) as file:
            data = _dataset(file, name, path_k)
            if data.shape != (used[k], *row_shape) or data.dtype != dtype:
                raise StoreDamaged(f"{path_k} holds {data.dtype.name} {data.shape}; the manifest says otherwise.")
            found = _located(file, name, buffer, path_k)
            if found is not None:
                return found
            if data.chunks is None or data.is_virtual:
                if used[k] * dtype.itemsize <= buffer.size:  # compact, or never allocated
                    return np.ascontiguousarray(data[:])
                raise StoreDamaged(f"{path_k}: {name!r} is laid out in a way that is not read.")
        return h5_rows(path_k, name, used[k], row_shape[0] if row_shape else 1, buffer.size)

    return Rows(path, shard_rows, len(used), load, np.empty((0, *row_shape), dtype))


def _outliers(path: Path, dim: int) -> Outliers:
    """Of the datasets `exact`."""

    def load(k: int) -> SparseRows | None:
        file_k = inside(path, f"shards/{k:06d}.h5")
        buffer = map_file(file_k)
        with blame(file_k), open_h5(file_k) as file:
            if "exact" not in file:
                return None
            data = _dataset(file, "exact", file_k)
            if data.chunks != (1, dim) or data.dtype != np.dtype("<f4"):
                raise StoreDamaged(f"{file_k}: the outliers are laid out in a way that is not read.")
            row, offset = _chunks(data, file_k, buffer.size)
        order = np.argsort(row)
        return SparseRows(buffer, np.dtype("<f4"), dim, row[order], offset[order])

    return Outliers(load)


def _chunks(data: Any, path: Path, file_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and byte offset of every chunk that exists, from HDF5's own chunk index."""
    rows: list[int] = []
    offsets: list[int] = []
    step = data.chunks[0] * data.chunks[1] * data.dtype.itemsize

    def note(info: Any) -> None:
        if info.size != step or info.byte_offset is None or info.byte_offset + step > file_size or info.filter_mask:
            raise StoreDamaged(f"{path}: a chunk lies outside the file or has the wrong size.")
        rows.append(int(info.chunk_offset[0]))
        offsets.append(int(info.byte_offset))

    data.id.chunk_iter(note)
    return np.asarray(rows, np.int64), np.asarray(offsets, np.int64)


def _foreign(index: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> Rows:
    """`tokens` of a file that something else wrote: mapped where its layout allows, else read by h5py."""

    def load(k: int) -> Shard:
        buffer = map_file(index)
        with blame(index), open_h5(index) as file:
            data = _dataset(file, "tokens", index)
            stored = int(buffer.size)
            if data.is_virtual:
                stored = sum(_source_size(index, source) for source in data.virtual_sources())
            found = None if data.is_virtual else _located(file, "tokens", buffer, index)
            if found is not None:
                return found
            plain = not data.is_virtual and data.chunks and data.id.get_create_plist().get_nfilters() == 0
            if plain and data.chunks[1] == shape[1] and data.dtype.byteorder != ">":
                row, offset = _chunks(data, index, buffer.size)
                count = -(-shape[0] // data.chunks[0])
                justify(count * 8, stored, index)
                table = np.full(count, -1, np.int64)
                table[row // data.chunks[0]] = offset
                return arrange(buffer, data.dtype, (shape[1],), data.chunks[0], table, strict=None)
            if data.chunks:
                justify(data.chunks[0] * data.chunks[1] * data.dtype.itemsize, stored, index)
        return h5_rows(index, "tokens", shape[0], shape[1], stored)

    return Rows(index, max(shape[0], 1), 1, load, np.empty((0, shape[1]), dtype))


def _source_size(index: Path, source: Any) -> int:
    if source.file_name == ".":
        return size_of(index) or 0
    size = size_of(inside(index.parent, source.file_name))
    if size is None:
        # HDF5 itself would read its rows as zeros.
        raise StoreDamaged(f"{index} needs {source.file_name}, which is missing.")
    return size
