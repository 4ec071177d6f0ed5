"""One writer and one reader per storage library, all with the same interface: what benchmarks/read.py compares.

    peer = PEERS["lmdb"]
    peer.write(folder, raw_RD, start)        # raw_RD: all rows; record i is raw_RD[start[i]:start[i + 1]]
    get = peer.open(folder, start)           # get(i) -> [T, D], a view where the library gives one

Each is used as its documentation advises for random reads: no compression, one chunk per record where the format has
chunks, zero-copy reads where they are offered. A peer whose package is missing is left out.

Letters: R rows of all records, D values of a row, T rows of a record, B records of a batch.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Get = Callable[[int], Any]
SHARD_BYTES = 256 << 20


@dataclass(frozen=True)
class Peer:
    """A way to store records.

    Attributes:
        package: what it needs.
        slow: reads fewer groups of records; its speed shows soon.
    """

    name: str
    package: str
    write: Callable[[Path, np.ndarray, np.ndarray], None]
    open: Callable[[Path, np.ndarray], Get]
    slow: bool = False

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def _write_raw(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    raw_RD.tofile(folder / "raw")


def _open_raw(folder: Path, start: np.ndarray) -> Get:
    at = start.tolist()
    raw_RD = np.memmap(folder / "raw", np.float16, "r").reshape(at[-1], -1)
    return lambda i: raw_RD[at[i] : at[i + 1]]


def _write_ours(form: str) -> Callable[[Path, np.ndarray, np.ndarray], None]:
    def write(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
        from umecache.stores import open_writer

        n = len(start) - 1
        writer = open_writer(
            folder / form,
            manifest={"recipe": {"benchmark": "read"}, "modality": "image", "model": "none"},
            ids=range(n),
            digests=[hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)],
            lengths=np.diff(start),
            dim=raw_RD.shape[1],
            format=form,
        )
        for shard in writer.claim():
            with shard:
                for i in shard.records:
                    shard.write(i, raw_RD[start[i] : start[i + 1]])
        writer.seal()

    return write


def _open_ours(form: str) -> Callable[[Path, np.ndarray], Get]:
    def open_(folder: Path, start: np.ndarray) -> Get:
        from umecache.stores import open_store

        return open_store(folder / form).__getitem__

    return open_


def _chunk(start: np.ndarray) -> int:
    """Rows of a chunk: a record where all have one length, else 64."""
    length = np.diff(start)
    return int(length[0]) if (length == length[0]).all() else 64


def _write_zarr(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    import zarr

    (R, D), chunk = raw_RD.shape, _chunk(start)
    step = min(chunk * max(1, SHARD_BYTES // (chunk * D * 2)), -(-R // chunk) * chunk)
    group = zarr.open_group(folder / "plain.zarr", mode="w")
    array = group.create_array(
        "tokens", shape=(R, D), chunks=(chunk, D), shards=(step, D), dtype="float16", compressors=None
    )
    for first in range(0, R, step):
        array[first : first + step] = raw_RD[first : first + step]


def _open_zarr(folder: Path, start: np.ndarray) -> Get:
    import zarr

    at, array = start.tolist(), zarr.open_group(folder / "plain.zarr", mode="r")["tokens"]
    return lambda i: array[at[i] : at[i + 1]]


def _open_tensorstore(folder: Path, start: np.ndarray) -> Get:
    import tensorstore

    place = {"driver": "file", "path": str(folder / "plain.zarr" / "tokens")}
    array = tensorstore.open({"driver": "zarr3", "kvstore": place}).result()
    at = start.tolist()
    return lambda i: array[at[i] : at[i + 1]].read().result()


def _write_h5(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    import h5py

    with h5py.File(folder / "plain.h5", "w") as file:
        file.create_dataset("tokens", data=raw_RD, chunks=(_chunk(start), raw_RD.shape[1]))


def _open_h5(folder: Path, start: np.ndarray) -> Get:
    import h5py

    at, data = start.tolist(), h5py.File(folder / "plain.h5", "r")["tokens"]
    return lambda i: data[at[i] : at[i + 1]]


def _write_lmdb(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    import lmdb

    with lmdb.open(str(folder / "lmdb"), map_size=2 * raw_RD.nbytes + (1 << 26)) as base, base.begin(write=True) as txn:
        for i in range(len(start) - 1):
            txn.put(i.to_bytes(8, "big"), raw_RD[start[i] : start[i + 1]].tobytes())


def _open_lmdb(folder: Path, start: np.ndarray) -> Get:
    import lmdb

    base = lmdb.open(str(folder / "lmdb"), readonly=True, lock=False, readahead=False)
    txn, length = base.begin(buffers=True), np.diff(start).tolist()
    return lambda i: np.frombuffer(txn.get(i.to_bytes(8, "big")), np.float16).reshape(length[i], -1)


def _write_mds(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder / "mds"), columns={"tokens": "ndarray:float16"}, size_limit=SHARD_BYTES) as writer:
        for i in range(len(start) - 1):
            writer.write({"tokens": raw_RD[start[i] : start[i + 1]]})


def _open_mds(folder: Path, start: np.ndarray) -> Get:
    from streaming import LocalDataset

    data = LocalDataset(str(folder / "mds"))
    return lambda i: data[i]["tokens"]


def _write_arrow(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    from datasets import Array2D, Dataset, Features, disable_progress_bars

    disable_progress_bars()
    T, D = int(np.diff(start).max()), raw_RD.shape[1]
    fixed = bool((np.diff(start) == T).all())
    features = Features({"tokens": Array2D(shape=(T if fixed else None, D), dtype="float16")})

    def records() -> Any:
        for i in range(len(start) - 1):
            yield {"tokens": raw_RD[start[i] : start[i + 1]]}

    made = Dataset.from_generator(
        records, features=features, cache_dir=str(folder / "arrow-cache"), writer_batch_size=64
    )
    made.save_to_disk(str(folder / "arrow"))


def _open_arrow(folder: Path, start: np.ndarray) -> Get:
    from datasets import load_from_disk

    data = load_from_disk(str(folder / "arrow")).with_format("numpy")
    return lambda i: data[i]["tokens"]


def _nothing(folder: Path, raw_RD: np.ndarray, start: np.ndarray) -> None:
    """Reads what another peer wrote."""


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("np.memmap", "numpy", _write_raw, _open_raw),
        Peer("ours, zarr", "zarr", _write_ours("zarr"), _open_ours("zarr")),
        Peer("ours, hdf5", "h5py", _write_ours("hdf5"), _open_ours("hdf5")),
        Peer("lmdb", "lmdb", _write_lmdb, _open_lmdb),
        Peer("mds (streaming)", "streaming", _write_mds, _open_mds, slow=True),
        Peer("h5py", "h5py", _write_h5, _open_h5, slow=True),
        Peer("zarr-python", "zarr", _write_zarr, _open_zarr, slow=True),
        Peer("tensorstore", "tensorstore", _nothing, _open_tensorstore, slow=True),
        Peer("datasets (arrow)", "datasets", _write_arrow, _open_arrow, slow=True),
    )
}
