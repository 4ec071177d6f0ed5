"""The Zarr format: one Zarr v3 group that zarr-python, tensorstore and zarrita open as it is.

    zarr.open_group(path)["tokens"][start:start + length]

tokens  [capacity, D]  sharding codec, one file per shard `tokens/c/K/0`; inner chunks [c, D] in row order from byte 0,
                       so row r of a shard lies at byte r * D * itemsize; then the shard index (crc32c checked)
start, length [n]      int64, one raw chunk
ids     [n]            int64, one raw chunk; or UTF-8 strings (vlen-utf8)
digest  [n, 32]        uint8, sha256 of each input
scale, exact           int8 only, see dtypes.py

Metadata is written by hand, so neither reading nor writing imports zarr, and the bytes depend on nothing but the facts.
Reading anything that isn't laid out like this goes through the library (foreign.py).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from umecache.stores.dtypes import DECODE, Stored, stored_dtype
from umecache.stores.errors import StoreDamaged
from umecache.stores.files import fsync_dir, inside, map_array, map_file, pretty, size_of, write_all
from umecache.stores.formats import Columns, ShardShape, Sink
from umecache.stores.manifest import FORMAT_VERSION
from umecache.stores.plan import Ids, Plan
from umecache.stores.rows import Decoded, Outliers, Rows, Shard, SparseRows, arrange
from umecache.stores.zarr_meta import ArrayMeta, read_array, read_vector, sharding, stored_strings

ABSENT = np.uint64(2**64 - 1)
ZSTD_LEVEL = 3


class ZarrFormat:
    """See the module."""

    name = "zarr"
    compressions = (None, "zstd")

    def detect(self, path: Path) -> bool:
        return size_of(path / "zarr.json") is not None

    def shard_files(self, k: int, dtype: str) -> list[str]:
        return [f"tokens/c/{k}/0"] + ([f"scale/c/{k}"] if dtype == "int8" else [])

    def sink(self, folder: Path, shape: ShardShape) -> Sink:
        return ZarrSink(folder, shape)

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
        n, rows, dim = len(plan.ids), plan.shard_rows, plan.dim
        inner: list[dict[str, Any]] = [_BYTES_LITTLE] if stored_dtype(dtype).itemsize > 1 else [_BYTES]
        if compression == "zstd":
            inner.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
        text = isinstance(plan.ids, list)
        arrays = {
            "digest": _array((n, 32), "uint8", (max(n, 1), 32), [_BYTES], 0),
            "ids": _array(
                (n,),
                "string" if text else "int64",
                (max(n, 1),),
                [_VLEN] if text else [_BYTES_LITTLE],
                "" if text else 0,
            ),
            "length": _array((n,), "int64", (max(n, 1),), [_BYTES_LITTLE], 0),
            "start": _array((n,), "int64", (max(n, 1),), [_BYTES_LITTLE], 0),
            "tokens": _array(
                (plan.capacity, dim),
                stored_dtype(dtype).name,
                (rows, dim),
                [sharding((plan.chunk_rows, dim), inner)],
                0,
                {"decode": DECODE[dtype]},
            ),
        }
        if dtype == "int8":
            arrays["scale"] = _array((plan.capacity,), "float32", (rows,), [_BYTES_LITTLE], 0.0)
            exact = [sharding((1, dim), [_BYTES_LITTLE])]
            arrays["exact"] = _array((plan.capacity, dim), "float32", (rows, dim), exact, 0.0)
        group = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"umecache": {"format_version": FORMAT_VERSION, "manifest": "manifest.json"}},
            # Lists the members, so that tools needn't look into folders that aren't arrays (receipts, encoder).
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
        }
        out = {"zarr.json": pretty(group)}
        out.update({f"{name}/zarr.json": pretty(meta) for name, meta in arrays.items()})
        if n:
            out["ids/c/0"] = _vlen(plan.ids) if isinstance(plan.ids, list) else plan.ids.astype("<i8").tobytes()
            out["start/c/0"] = plan.start.astype("<i8").tobytes()
            out["length/c/0"] = length.astype("<i8").tobytes()
            out["digest/c/0/0"] = plan.digests.tobytes()
        return out

    def columns(self, path: Path, manifest: Mapping[str, Any] | None) -> Columns:
        meta = read_array(path, "tokens", dimensions=2)
        start, length = read_vector(path, "start"), read_vector(path, "length")
        dtype = manifest["dtype"] if manifest else meta.dtype
        used = [shard["rows"] for shard in manifest["layout"]["shards"]] if manifest else None
        if manifest and (not meta.fast or meta.dtype != stored_dtype(dtype).name):
            raise StoreDamaged(f"{path}/tokens/zarr.json describes another array than the manifest does.")
        if manifest or (meta.fast and bool((start % meta.chunk[0] + length <= meta.chunk[0]).all())):
            tokens = _rows(path, meta, used)
        else:
            from umecache.stores.foreign import zarr_rows

            tokens = zarr_rows(path, "tokens")
        scale = _rows(path, read_array(path, "scale", dimensions=1), used) if dtype == "int8" else None
        outliers = _outliers(path, read_array(path, "exact", dimensions=2)) if dtype == "int8" else None
        names = read_array(path, "ids", dimensions=1)

        def load_ids() -> Ids:
            return stored_strings(path, "ids") if names.dtype == "string" else read_vector(path, "ids")

        def digests() -> NDArray[np.uint8] | None:
            if not manifest:
                return None
            n = len(start)
            file = inside(path, "digest/c/0/0")
            return map_array(file, np.uint8, n * 32).reshape(n, 32) if n else np.empty((0, 32), np.uint8)

        if names.shape[0] != len(start) or len(length) != len(start):
            raise StoreDamaged(f"{path}: ids, start and length have {names.shape[0]}, {len(start)} and {len(length)}.")
        return Columns(
            load_ids,
            start,
            length,
            digests,
            meta.shape[0],
            meta.shape[1],
            dtype,
            tokens,
            scale,
            outliers,
            meta.chunk[0],
        )


_BYTES_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_BYTES = {"name": "bytes"}
_VLEN = {"name": "vlen-utf8", "configuration": {}}


def _array(
    shape: tuple[int, ...],
    data_type: str,
    chunk: tuple[int, ...],
    codecs: list[dict[str, Any]],
    fill: object,
    attributes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": float(fill) if data_type.startswith("float") and isinstance(fill, int) else fill,
        "codecs": codecs,
        "attributes": attributes or {},
        "storage_transformers": [],
    }


def _vlen(names: list[str]) -> bytes:
    # numcodecs' vlen-utf8: the count, then for each string its size in bytes and its bytes.
    raw = [name.encode() for name in names]
    return struct.pack("<I", len(raw)) + b"".join(struct.pack("<I", len(name)) + name for name in raw)


class ZarrSink:
    """One shard: rows at their places in a temporary file, then the index."""

    def __init__(self, folder: Path, shape: ShardShape) -> None:
        self._folder, self._shape = folder, shape
        self._row_bytes = stored_dtype(shape.dtype).itemsize * shape.dim
        self._present = np.zeros(shape.shard_rows // shape.chunk_rows, bool)
        self._scale = np.zeros(shape.shard_rows, "<f4") if shape.dtype == "int8" else None
        self._exact: list[tuple[int, bytes]] = []
        self._body = folder / "tokens"
        self._fd = os.open(self._body, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def put(self, row: int, stored: Stored) -> None:
        write_all(self._fd, stored.tokens, row * self._row_bytes)
        n, chunk = len(stored.tokens), self._shape.chunk_rows
        self._present[row // chunk : (row + n) // chunk] = True
        if self._scale is not None and stored.scale is not None:
            self._scale[row : row + n] = stored.scale
        if stored.exact_rows is not None and stored.exact is not None:
            self._exact += [(row + int(at), x.tobytes()) for at, x in zip(stored.exact_rows, stored.exact, strict=True)]

    def finish(self) -> dict[str, Path]:
        k, step = self._shape.k, self._shape.chunk_rows * self._row_bytes
        index = np.full((len(self._present), 2), ABSENT, "<u8")
        if self._shape.compression is None:
            index[self._present, 0] = np.flatnonzero(self._present) * step
            index[self._present, 1] = step
            end = self._shape.rows * self._row_bytes  # failed records leave holes, the tail is not written
        else:
            end = self._compress(index, step)
        write_all(self._fd, _sealed_index(index), end)
        os.fsync(self._fd)
        self.close()
        done = {f"tokens/c/{k}/0": self._body}
        if self._scale is not None:
            done[f"scale/c/{k}"] = _write_new(self._folder / "scale", [self._scale.tobytes()])
        if self._exact:
            self._exact.sort()
            size = self._shape.dim * 4
            index = np.full((self._shape.shard_rows, 2), ABSENT, "<u8")
            rows = np.array([row for row, _ in self._exact])
            index[rows, 0], index[rows, 1] = np.arange(len(rows)) * size, size
            parts = [raw for _, raw in self._exact] + [_sealed_index(index)]
            done[f"exact/c/{k}/0"] = _write_new(self._folder / "exact", parts)
        fsync_dir(self._folder)
        return done

    def _compress(self, index: NDArray[np.uint64], step: int) -> int:
        from numcodecs.zstd import Zstd

        codec, end = Zstd(level=ZSTD_LEVEL), 0
        packed = self._folder / "packed"
        out = os.open(packed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for i in np.flatnonzero(self._present).tolist():
                data = codec.encode(os.pread(self._fd, step, i * step))
                write_all(out, data, end)
                index[i] = end, len(data)
                end += len(data)
        except BaseException:
            os.close(out)
            raise
        self.close()
        self._body.unlink()
        self._body, self._fd = packed, out
        return end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _sealed_index(index: NDArray[np.uint64]) -> bytes:
    raw = index.tobytes()
    return raw + struct.pack("<I", google_crc32c.value(raw))


def _write_new(path: Path, parts: list[bytes]) -> Path:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        offset = 0
        for part in parts:
            write_all(fd, part, offset)
            offset += len(part)
        os.fsync(fd)
    finally:
        os.close(fd)
    return path


def read_index(buffer: NDArray[np.uint8], chunks: int, path: Path, *, at_end: bool = True) -> NDArray[np.int64]:
    """The shard index as [chunks, 2] (offset, bytes), -1 where a chunk is absent.

    Raises:
        StoreDamaged: it is cut short, its checksum is wrong, or a chunk would lie outside the file.
    """
    size = chunks * 16 + 4
    if buffer.size < size:
        raise StoreDamaged(f"{path} is cut short: {buffer.size} bytes can't hold an index of {chunks} chunks.")
    raw = buffer[buffer.size - size :] if at_end else buffer[:size]
    if google_crc32c.value(np.ascontiguousarray(raw[:-4])) != struct.unpack("<I", raw[-4:].tobytes())[0]:
        raise StoreDamaged(f"{path}: the checksum of the shard index is wrong.")
    index = np.frombuffer(raw[:-4].tobytes(), "<u8").reshape(chunks, 2)
    absent = (index == ABSENT).all(axis=1)
    limit = np.uint64(buffer.size)
    outside = ~absent & ((index[:, 0] > limit) | (index[:, 1] > limit - np.minimum(index[:, 0], limit)))
    if outside.any():
        raise StoreDamaged(f"{path}: the shard index points outside the file.")
    return np.where(absent[:, None], -1, index.astype(np.int64, copy=False))


def _rows(path: Path, meta: ArrayMeta, used: list[int] | None) -> Rows:
    """`used`: rows of each shard that hold records; None for a foreign store, where absent rows read as 0."""
    rows, dtype, row_shape = meta.chunk[0], np.dtype(meta.dtype).newbyteorder("<"), meta.shape[1:]
    shards = -(-meta.shape[0] // rows)
    if used is not None and len(used) != shards:
        raise StoreDamaged(f"{path} has {len(used)} shards by its manifest, {shards} by {meta.name}/zarr.json.")

    def load(k: int) -> Shard:
        file = inside(path, f"{meta.name}/{meta.key(k)}")
        buffer = map_file(file)
        count = rows if used is None else used[k]
        if meta.inner is None:  # one plain chunk
            step = rows * dtype.itemsize * math.prod(row_shape)
            if buffer.size != step:
                raise StoreDamaged(f"{file} has {buffer.size} bytes; {step} are declared.")
            return buffer.view(dtype).reshape(rows, *row_shape)[:count]
        chunk = meta.inner[0]
        step = chunk * dtype.itemsize * math.prod(row_shape)
        index = read_index(buffer, rows // chunk, file, at_end=meta.index_at_end)[: -(-count // chunk)]
        strict = None if used is None else file
        if meta.codec == "raw":
            if ((index[:, 1] != step) & (index[:, 0] >= 0)).any():
                raise StoreDamaged(f"{file}: the shard index gives a chunk another size than {step} bytes.")
            return arrange(buffer, dtype, row_shape, chunk, index[:, 0].copy(), strict=strict)
        from umecache.stores.foreign import zstd_chunks

        return Decoded(len(index) * chunk, zstd_chunks(buffer, index, dtype, row_shape, chunk, file, strict=strict))

    return Rows(path, rows, shards, load, np.empty((0, *row_shape), dtype))


def _outliers(path: Path, meta: ArrayMeta) -> Outliers:
    """Of array `exact`."""

    def load(k: int) -> SparseRows | None:
        file = inside(path, f"exact/{meta.key(k)}")
        if not file.exists():
            return None
        buffer = map_file(file)
        index = read_index(buffer, meta.chunk[0], file, at_end=meta.index_at_end)
        row = np.flatnonzero(index[:, 0] >= 0)
        if (index[row, 1] != meta.shape[1] * 4).any():
            raise StoreDamaged(f"{file}: an outlier row has the wrong size.")
        return SparseRows(buffer, np.dtype("<f4"), meta.shape[1], row, index[row, 0])

    return Outliers(load)
