"""Features made elsewhere, brought into a store with what is known of their origin.

    import_features([Path("regions/")], Path("stores/vqa/updn/val"), ImportFacts(model="updn", modality="image"))

Read are folders of per-item `.npy` files, `.safetensors` and HDF5 files (one array per item). An item's id is the last
digits of its file's name or key: COCO_val2014_000000000042.npy is 42. Arrays are [T, D], or [D] for one token. Nothing
is unpickled, and nothing of the origin is made up: what the caller doesn't say is not told.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.errors import DataError, UsageError
from umecache.reporting import Reporter, Silent
from umecache.stores import open_writer
from umecache.stores.dtypes import row_bytes
from umecache.stores.plan import SHARD_BYTES

SUFFIXES = (".npy", ".safetensors", ".h5", ".hdf5")
Read = Callable[[], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ImportFacts:
    """What is known of where the features come from; None: not known."""

    model: str
    modality: str  # "text" or "image"
    dataset: str | None = None
    split: str | None = None
    licence: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One array, read when asked for.

    Attributes:
        where: file and key, for errors.
    """

    id: int
    where: str
    read: Read


def import_features(
    sources: Sequence[Path],
    target: Path,
    facts: ImportFacts,
    *,
    key: str = "features",
    format: str = "zarr",
    dtype: str = "float16",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the arrays of all sources as one store.

    Args:
        key: in files whose items are groups of several arrays (features, boxes), the one that holds the features; the
            others are left out.

    Returns:
        The new store's facts, as `Writer.seal`.

    Raises:
        DataError: a file that can't be read, has no id, or an array that is no [T, D] of numbers.
        StoreError: the target holds something else.
    """
    reporter = reporter or Silent()
    items = sorted(_items(sources, key), key=lambda item: item.id)
    if not items:
        raise DataError("No features were found.", why=f"Read are {', '.join(SUFFIXES)} files and folders of them.")
    for one, two in pairwise(items):
        if one.id == two.id:
            raise DataError(f"{one.where} and {two.where} have the same id, {one.id}.", next="Import one of them.")
    digests, lengths, dim = [], [], 0
    with reporter.task("read shapes and contents", len(items)) as task:
        for item in items:
            values = _values(item)
            dim = dim or values.shape[1]
            if values.shape[1] != dim:
                raise DataError(f"{item.where} has width {values.shape[1]}, {items[0].where} {dim}.")
            # The input itself is not at hand: its features stand for it.
            digests.append(hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest())
            lengths.append(len(values))
            task.advance()
    told = {name: value for name, value in asdict(facts).items() if value is not None}
    writer = open_writer(
        target,
        manifest={
            "model": facts.model,
            "modality": facts.modality,
            "dataset": {name: value for name, value in (("name", facts.dataset), ("split", facts.split)) if value},
            "grid": None,
            # How they were made is not known; their content is in the fingerprint, by the digests.
            "recipe": {"imported": True, "model": facts.model, "modality": facts.modality},
            "origin": {"imported": True, **{name: told[name] for name in ("licence", "note") if name in told}},
        },
        ids=np.array([item.id for item in items], np.int64),
        digests=digests,
        lengths=lengths,
        dim=dim,
        format=format,
        dtype=dtype,
        shard_bytes=max(SHARD_BYTES // 4, row_bytes(dtype, dim)),
    )
    with reporter.task(f"import {target.name}", len(writer.plan.first)) as task:
        for shard in writer.claim():
            with shard:
                for position in shard.records:
                    shard.write(position, _values(items[position]))
                    task.advance()
    return writer.seal()


def _values(item: Item) -> NDArray[Any]:
    """The item's array as float16 or float32 [T, D]."""
    try:
        values = item.read()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{item.where} can't be read.", why=f"{str(error)[:200]}.") from error
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or values.dtype.kind != "f" or not values.size:
        raise DataError(f"{item.where} is {values.dtype} {values.shape}; features are floating point [T, D].")
    return np.ascontiguousarray(values, np.float16 if values.dtype == np.float16 else np.float32)


def _items(sources: Sequence[Path], key: str) -> Iterator[Item]:
    for source in sources:
        if not source.exists():
            raise UsageError(f"There is no {source}.")
        files = sorted(p for p in source.rglob("*") if p.suffix in SUFFIXES) if source.is_dir() else [source]
        for file in files:
            if file.suffix == ".npy":
                yield Item(_id(file.stem, str(file)), str(file), _npy(file))
            elif file.suffix == ".safetensors":
                yield from _safetensors(file)
            elif file.suffix in SUFFIXES:
                yield from _hdf5(file, key)
            else:
                raise UsageError(f"{file} is no file of features.", why=f"Read are {', '.join(SUFFIXES)}.")


def _id(name: str, where: str) -> int:
    """The last digits of a name."""
    found = re.search(r"(\d+)\D*$", name)
    if found is None or int(found[1]) >= 1 << 63:
        raise DataError(f"{where} has no id: no digits in {name!r}.", next="Name items by their question or image id.")
    return int(found[1])


def _npy(file: Path) -> Read:
    return lambda: np.load(file, allow_pickle=False)


def _safetensors(file: Path) -> Iterator[Item]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> NDArray[Any]:
        with safe_open(file, framework="numpy") as opened:
            values: NDArray[Any] = opened.get_tensor(name)
            return values

    try:
        with safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} is no safetensors file.", why=f"{str(error)[:200]}.") from error
    for name in names:
        where = f"{file}[{name}]"
        yield Item(_id(name, where), where, lambda name=name: read(name))  # type: ignore[misc]


def _hdf5(file: Path, key: str) -> Iterator[Item]:
    """Datasets by id, or groups by id that hold `key` (beside boxes and sizes, which are left out)."""
    import h5py

    def path_of(opened: Any, name: str) -> str | None:
        # Links of other kinds lead to other files.
        if not isinstance(opened.get(name, getlink=True), h5py.HardLink):
            return None
        here = opened[name]
        if isinstance(here, h5py.Group):
            return f"{name}/{key}" if isinstance(here.get(key, getlink=True), h5py.HardLink) else None
        return name

    def read(path: str) -> NDArray[Any]:
        with h5py.File(file, "r") as opened:
            dataset = opened[path]
            if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
                raise ValueError("it is no plain dataset")
            values: NDArray[Any] = dataset[()]
            return values

    try:
        with h5py.File(file, "r") as opened:
            paths = {name: path_of(opened, name) for name in opened}
    except OSError as error:
        raise DataError(f"{file} is no HDF5 file.", why=f"{str(error)[:200]}.") from error
    for name, path in paths.items():
        if path is None:
            raise DataError(f"{file}[{name}] holds no array {key!r}.", next="--key NAME says which holds them")
        where = f"{file}[{path}]"
        yield Item(_id(name, where), where, lambda path=path: read(path))  # type: ignore[misc]
