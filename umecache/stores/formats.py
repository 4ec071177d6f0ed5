"""What a store format is, and the list of those that exist.

    FORMATS["zarr"]                   # "module:class", loaded by load_format
    load_format("hdf5").columns(path, manifest)

Adding a format: one file with a class that has these methods, one line in FORMATS, one test class that inherits
`StoreContract` (tests/stores/contract.py). A package of one's own offers its class as an entry point of the group
`umecache.store_formats`; names of ours win over theirs, and where content is looked at, ours are asked first. Only byte
positions and metadata differ between formats; planning, claims, receipts, reading and verifying are shared.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from umecache.stores.dtypes import Stored
from umecache.stores.errors import StoreError, StoreMissing
from umecache.stores.plan import Ids, Plan
from umecache.stores.plugins import PluginBroken, load, offered
from umecache.stores.rows import Outliers, Rows
from umecache.stores.supply import Supply

FORMATS = {
    "zarr": "umecache.stores.zarr_format:ZarrFormat",
    "hdf5": "umecache.stores.hdf5_format:Hdf5Format",
}


ENTRY_POINTS = "umecache.store_formats"


@dataclass(frozen=True, slots=True)
class ShardShape:
    """What a format must know to write one shard."""

    k: int
    rows: int  # used
    shard_rows: int  # S
    chunk_rows: int
    dim: int
    dtype: str
    compression: str | None


class Sink(Protocol):
    """One shard being written, to temporary names."""

    def put(self, row: int, stored: Stored) -> None:
        """Place a record at a row of the shard; any order."""

    def finish(self) -> dict[str, Path]:
        """Complete and fsync the files: final relative path -> temporary file."""

    def close(self) -> None:
        """Let go of file descriptors; harmless after `finish`."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A store opened for reading."""

    load_ids: Callable[[], Ids]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    digests: Callable[[], NDArray[np.uint8] | None]  # [n, 32]; None in a foreign store
    capacity: int
    dim: int
    dtype: str
    tokens: Rows
    scale: Rows | None  # int8
    outliers: Outliers | None  # int8
    shard_rows: int

    def supply_from(self, supply: Supply) -> None:
        """Have shards brought before they are read."""
        for part in (self.tokens, self.scale, self.outliers):
            if part is not None:
                part.supply_from(supply)


class Format(Protocol):
    """One way to lay a store out in files."""

    name: str
    compressions: tuple[str | None, ...]

    def detect(self, path: Path) -> bool:
        """Whether `path` looks like a store of this format, by content."""

    def shard_files(self, k: int, dtype: str) -> list[str]:
        """Relative paths that shard k has in any case."""

    def sink(self, folder: Path, shape: ShardShape) -> Sink:
        """Start a shard with temporary files in `folder`."""

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
        """Metadata and index files of a complete store, by relative path.

        Args:
            length: rows of each id, 0 for failed inputs.
            files: relative paths of each shard's files, as written.
            scratch: a folder for temporary files.
        """

    def columns(self, path: Path, manifest: Mapping[str, Any] | None) -> Columns:
        """Open for reading; `manifest` is None for a foreign store."""


def known_formats() -> tuple[str, ...]:
    """Names of all formats, ours first."""
    return tuple(dict.fromkeys([*FORMATS, *offered(ENTRY_POINTS)]))


def is_format(name: str) -> bool:
    """Whether there is a format of that name; packages are only looked for where it is none of ours."""
    return name in FORMATS or name in offered(ENTRY_POINTS)


def load_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        StoreError: there is none, or what a package offers under that name is none.
        PluginBroken: the package that offers it can't be imported.
    """
    if name in FORMATS:
        return cast(Format, pkgutil.resolve_name(FORMATS[name])())
    point = offered(ENTRY_POINTS).get(name)
    if point is None:
        raise StoreError(f"Unknown store format {name!r}.", why=f"Known: {', '.join(known_formats())}.")
    found = load(point)
    wanted = [key for key, value in vars(Format).items() if callable(value) and not key.startswith("_")]
    lacks = [key for key in wanted if not callable(getattr(found, key, None))]
    if not isinstance(found, type) or lacks or getattr(found, "name", None) != name:
        why = f"It lacks {', '.join(lacks)}." if lacks else f"It has to be a class whose `name` is {name!r}."
        raise StoreError(f"{point.value} is no store format {name!r}.", why=why, next="umecache doctor")
    return cast(Format, found())


def find_format(path: Path) -> Format:
    """The format of what lies at `path`, found by content.

    Raises:
        StoreMissing: nothing there looks like a store.
    """
    broken: list[str] = []
    for name in known_formats():
        try:
            found = load_format(name)
        except (PluginBroken, StoreError) as error:  # breaks only itself: others may know what this is
            broken.append(error.what)
            continue
        if found.detect(path):
            return found
    why = "Neither a Zarr group nor an HDF5 index is there." if path.exists() else "The path does not exist."
    raise StoreMissing(
        f"No feature store at {path}.",
        why=" ".join([why, *broken]),
        next="umecache store ls shows the stores that exist.",
    )
