"""Reading Zarr v3 metadata without trust and without zarr.

    meta = read_array(path, "tokens", dimensions=2)
    meta.fast       # rows can be mapped by byte position
    read_vector(path, "start")

Only what the documented layout can need is let through, also to the library: Zarr v3, regular grids, plain numbers and
UTF-8 strings, and codecs that cannot run code (Zarr v2's pickle filter is why this list exists).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.errors import StoreDamaged
from umecache.stores.files import inside, map_file, read_json

DATA_TYPES = ("int8", "uint8", "uint16", "int32", "int64", "float16", "float32", "string")
CODECS = ("bytes", "crc32c", "gzip", "zstd", "blosc", "transpose", "sharding_indexed", "vlen-utf8")

_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class ArrayMeta:
    """What `zarr.json` says of one array."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]  # one file each
    inner: tuple[int, ...] | None  # chunks within a shard
    codec: str  # of the innermost chunks: "raw", "zstd", "vlen" or "other"
    index_at_end: bool
    separator: str

    @property
    def fast(self) -> bool:
        """Whether our own reader knows this layout: whole rows per chunk, plain bytes or zstd in shards."""
        whole = self.chunk[1:] == self.shape[1:] and self.dtype != "string"
        if self.inner is None:
            return whole and self.codec == "raw"
        return (
            whole
            and self.codec in ("raw", "zstd")
            and self.inner[1:] == self.shape[1:]
            and not self.chunk[0] % self.inner[0]
        )

    def key(self, k: int) -> str:
        """Path, below the array's folder, of the k-th chunk along the first axis."""
        return self.separator.join(["c", str(k), *("0" for _ in self.shape[1:])])


def sharding(inner: tuple[int, ...], codecs: list[dict[str, Any]]) -> dict[str, Any]:
    """The sharding codec's metadata, index at the end."""
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(inner),
            "codecs": codecs,
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        },
    }


def read_array(path: Path, name: str, *, dimensions: int) -> ArrayMeta:
    """Checked metadata of array `name` of the group at `path`.

    Raises:
        StoreDamaged: missing, malformed, or using something that a feature store has no use for.
    """
    file = inside(path, f"{name}/zarr.json")
    document = read_json(file)
    try:
        return _parse(name, document, dimensions)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise StoreDamaged(
            f"{file} does not describe the array {name!r} of a feature store.", why=f"{error}."
        ) from error


def _parse(name: str, document: dict[str, Any], dimensions: int) -> ArrayMeta:
    if document["zarr_format"] != 3 or document["node_type"] != "array":
        raise ValueError("it is no Zarr v3 array")
    if document.get("storage_transformers"):
        raise ValueError("storage transformers are not read")
    shape = _sizes(document["shape"], dimensions, least=0)
    dtype = document["data_type"]
    if not isinstance(dtype, str) or dtype not in DATA_TYPES:
        raise ValueError(f"data type {dtype!r:.60} is not read")
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise ValueError("the chunk grid is not regular")
    chunk = _sizes(grid["configuration"]["chunk_shape"], dimensions, least=1)
    keys = document["chunk_key_encoding"]
    separator = keys.get("configuration", {}).get("separator", "/")
    if keys["name"] != "default" or separator not in ("/", "."):
        raise ValueError("chunk keys are encoded in a way that is not read")
    codecs = document["codecs"]
    _check_codecs(codecs, 0)
    inner, at_end = None, True
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        configuration = codecs[0]["configuration"]
        inner = _sizes(configuration["chunk_shape"], dimensions, least=1)
        at_end = configuration.get("index_location", "end") == "end"
        codec = _kind(configuration["codecs"], dtype)
        if [step["name"] for step in configuration["index_codecs"]] != ["bytes", "crc32c"] or not _little(
            configuration["index_codecs"][0]
        ):
            codec = "other"
    else:
        codec = _kind(codecs, dtype)
    return ArrayMeta(name, shape, dtype, chunk, inner, codec, at_end, separator)


def _sizes(values: Any, dimensions: int, *, least: int) -> tuple[int, ...]:
    if type(values) is not list or len(values) != dimensions:
        raise ValueError(f"{values!r:.60} should be {dimensions} sizes")
    if any(type(value) is not int or not least <= value < _LIMIT for value in values):
        raise ValueError(f"{values!r:.60} are no sizes")
    return tuple(values)


def _check_codecs(codecs: Any, depth: int) -> None:
    if depth > 1:
        raise ValueError("shards within shards are not read")
    for step in codecs:
        if step["name"] not in CODECS:
            raise ValueError(f"codec {step['name']!r:.60} is not read")
        if step["name"] == "sharding_indexed":
            _check_codecs(step["configuration"]["codecs"], depth + 1)
            _check_codecs(step["configuration"]["index_codecs"], depth + 1)


def _little(step: dict[str, Any]) -> bool:
    return bool(step.get("configuration", {}).get("endian", "little") == "little")


def _kind(codecs: list[dict[str, Any]], dtype: str) -> str:
    names = [step["name"] for step in codecs]
    if names == ["vlen-utf8"]:
        return "vlen"
    if not names or names[0] != "bytes" or not _little(codecs[0]):
        return "other"
    return {("bytes",): "raw", ("bytes", "zstd"): "zstd"}.get(tuple(names), "other")


def read_vector(path: Path, name: str) -> NDArray[np.int64]:
    """A one-dimensional int64 array: mapped where it is one raw chunk, else read by the library."""
    meta = read_array(path, name, dimensions=1)
    if meta.dtype not in ("int64", "int32"):
        raise StoreDamaged(f"{path}/{name} holds {meta.dtype}; int64 is needed.")
    if meta.shape[0] == 0:
        return np.empty(0, np.int64)
    if meta.inner is None and meta.codec == "raw" and meta.chunk[0] >= meta.shape[0] and meta.dtype == "int64":
        file = inside(path, f"{name}/{meta.key(0)}")
        buffer = map_file(file)
        if buffer.size != meta.chunk[0] * 8:
            raise StoreDamaged(f"{file} has {buffer.size} bytes; {meta.chunk[0] * 8} are declared.")
        return buffer.view("<i8")[: meta.shape[0]]
    from umecache.stores.foreign import zarr_vector

    return np.ascontiguousarray(zarr_vector(path, name), np.int64)


def stored_strings(path: Path, name: str) -> list[str]:
    """A one-dimensional array of UTF-8 strings."""
    meta = read_array(path, name, dimensions=1)
    if meta.shape[0] == 0:
        return []
    if meta.inner is None and meta.codec == "vlen" and meta.chunk[0] == meta.shape[0]:
        return _split(map_file(inside(path, f"{name}/{meta.key(0)}")).tobytes(), meta.shape[0], path)
    from umecache.stores.foreign import zarr_vector

    return [str(value) for value in zarr_vector(path, name)]


def _split(raw: bytes, n: int, path: Path) -> list[str]:
    # vlen-utf8; every size is checked, so no string is longer than the file.
    names, at = [], 4
    if len(raw) < 4 + 4 * n or int.from_bytes(raw[:4], "little") != n:
        raise StoreDamaged(f"{path}: the list of ids is cut short.")
    try:
        for _ in range(n):
            size = int.from_bytes(raw[at : at + 4], "little")
            at += 4 + size
            if at > len(raw):
                raise StoreDamaged(f"{path}: the list of ids is cut short.")
            names.append(raw[at - size : at].decode())
    except UnicodeDecodeError as error:
        raise StoreDamaged(f"{path}: an id is no UTF-8.") from error
    return names
