"""Reading a store: records by id, as read-only views into memory maps.

    store = open_store(path)              # zarr or hdf5, found by content; needs neither torch nor zarr
    store[25]                             # [T, D]; a view for float16 and float32
    tokens_BTD, mask_BT = store.batch([25, 30, 25])

Opening reads the manifest and asks for the size of each shard, nothing more: ids and places are mapped, and a shard is
when its first record is asked for. A Store may be used from threads, after a fork and in spawned workers (it pickles as
its path); all of them share one page cache.

Letters: n ids, B records of a batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.commit import is_sealed
from umecache.stores.dtypes import Stored, StoredBatch, decode_into, decoded_dtype, stored_dtype
from umecache.stores.errors import StoreDamaged, StoreError, StoreIncomplete, StoreMismatch, StoreMissing, UnknownId
from umecache.stores.files import WORK, inside, read_json, size_of
from umecache.stores.formats import find_format, load_format
from umecache.stores.manifest import MANIFEST, created, read_manifest
from umecache.stores.plan import Ids
from umecache.stores.supply import Supply

Id = int | str


def open_store(path: str | Path) -> Store:
    """Open a finished store for reading.

    Args:
        path: the folder of a store, or of a Zarr group or HDF5 file that follows the documented layout.

    Raises:
        StoreMissing: nothing there looks like a store.
        StoreIncomplete: it is still being written; says how far.
        StoreDamaged: files are missing, cut short or malformed.
    """
    text = str(path)
    if "://" in text:
        if not text.startswith("file://"):
            raise StoreError(
                f"{text} is not on this machine.", next=f"umecache.open_store({text!r}), or umecache store pull {text}"
            )
        text = text[7:]
    found = Path(text)
    if found.name == "index.h5" and (found.parent / MANIFEST).is_file():
        found = found.parent  # the index of an HDF5 store, named by its file
    return Store(found)


class Store:
    """A store opened for reading; made by `open_store`.

    Attributes:
        path: the folder.
        place: where it is, as people say it.
        manifest: its facts (docs/store-format.md); for a foreign store only what the arrays tell.
        fingerprint: recipe and inputs in one hash; "" for a foreign store.
        dim: D.
        dtype: "float16", "float32", "bfloat16" or "int8".
        format: "zarr" or "hdf5".
        lengths: int64 [n], tokens of each id; 0 for failed inputs.
        failures: reason by id.
    """

    def __init__(
        self, path: Path, *, lenient: bool = False, supply: Supply | None = None, place: str | None = None
    ) -> None:
        # lenient: open in spite of damaged shards, as `verify` must; supply: brings the shards, so none need be there
        self.path = path.resolve()
        self.place = str(self.path) if place is None else place
        root = self.path
        ours = (root / MANIFEST).is_file()
        lenient = lenient or supply is not None
        if not lenient and not (ours and is_sealed(root)):
            _refuse_unfinished(root)
            ours = (root / MANIFEST).is_file()  # it may have been sealed at this very moment
        try:
            self._open(root, ours, lenient, supply)
        except OSError as error:
            raise StoreDamaged(f"{root} can't be read.", why=f"{error.strerror or error}.") from error

    def _open(self, root: Path, ours: bool, lenient: bool, supply: Supply | None) -> None:
        manifest = read_manifest(root) if ours else None
        opener = load_format(manifest["format"]) if manifest else find_format(root)
        if not opener.detect(root):
            raise StoreDamaged(f"{root} lacks the index of its {opener.name} format.")
        if manifest and not lenient:
            _check_shards(root, manifest)
        columns = opener.columns(root, manifest)
        if manifest and not (
            manifest["records"] == len(columns.start)
            and manifest["dim"] == columns.dim
            and manifest["layout"]["capacity"] == columns.capacity
            and manifest["layout"]["shard_rows"] == columns.shard_rows
        ):
            raise StoreDamaged(f"{root}: the manifest and the arrays disagree on the store's size.")
        if columns.dtype not in ("float16", "float32") and not manifest:
            raise StoreError(
                f"{root} holds {columns.dtype} tokens; without a manifest only float16 and float32 are read."
            )
        if supply is not None:
            columns.supply_from(supply)
        self._columns = columns
        self._read = columns.tokens.read
        self.format, self.dim, self.dtype = opener.name, columns.dim, columns.dtype
        # A copy only where a foreign or tiny array lies at an odd byte, of which no memoryview can be indexed.
        self.lengths = np.require(columns.length, np.int64, ["C", "A"])
        self._start = np.require(columns.start, np.int64, ["C", "A"])
        # Indexing a memoryview gives a Python int in a third of the time that an array takes.
        self._place = self._start.data, self.lengths.data
        self._decoded = decoded_dtype(self.dtype)
        self._plain = self.dtype in ("float16", "float32")
        self.manifest: dict[str, Any] = (
            {**manifest, "created": created(root)}
            if manifest
            else {"format": self.format, "dtype": self.dtype, "dim": self.dim, "records": len(self), "failures": []}
        )
        self.fingerprint: str = self.manifest.get("fingerprint", "")
        self.failures: dict[Id, str] = {row["id"]: row["reason"] for row in self.manifest["failures"]}
        self._ids: Ids | None = None
        self._order: tuple[NDArray[np.int64], NDArray[np.int64] | None] | None = None  # sorted ids, their positions
        self._position: dict[str, int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path), self.fingerprint)

    def __repr__(self) -> str:
        return f"Store({self.place!r}, {len(self)} records, D={self.dim}, {self.dtype}, {self.format})"

    def __len__(self) -> int:
        return len(self._start)

    @property
    def ids(self) -> Ids:
        """Int64 [n], or n strings, in the order of the inputs."""
        if self._ids is None:
            ids = self._columns.load_ids()
            if len(ids) != len(self):
                raise StoreDamaged(f"{self.path} lists {len(ids)} ids for {len(self)} records.")
            self._ids = ids
        return self._ids

    @property
    def digests(self) -> NDArray[np.uint8] | None:
        """Uint8 [n, 32], the sha256 of each input's content; None in a foreign store."""
        return self._columns.digests()

    @property
    def starts(self) -> NDArray[np.int64]:
        """Int64 [n], first row of each id's record in the array `tokens`; ids of equal inputs share it."""
        return self._start

    def rows(self, ids: Sequence[Id] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of `ids` in `self.ids`, int64.

        Raises:
            UnknownId: one of them is not in the store.
        """
        known = self.ids
        if isinstance(known, list):
            table = self._positions()
            try:
                return np.fromiter((table[name] for name in ids), np.int64, len(ids))  # type: ignore[index]
            except (KeyError, TypeError):
                missing = [name for name in ids if not isinstance(name, str) or name not in table]
                raise self._unknown(missing) from None
        if not len(ids):
            return np.empty(0, np.int64)
        try:
            given = np.asarray(ids)
        except ValueError:  # nested lists of unequal length
            raise self._unknown(list(ids)) from None
        if given.ndim != 1 or given.dtype.kind not in "iu" or given.dtype == np.uint64:
            raise self._unknown([name for name in ids if name not in self] or list(ids))
        wanted = given.astype(np.int64, copy=False)
        position, found = self._find(wanted)
        if not found.all():
            raise self._unknown(wanted[~found].tolist())
        return position

    def _find(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        table, order = self._search()
        if not len(table):
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
        at = table.searchsorted(wanted)
        np.minimum(at, len(table) - 1, out=at)
        found = table[at] == wanted
        return (at if order is None else order[at]), found

    def _search(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Sorted ids, and the position of each; no positions where the ids are sorted as they are."""
        if self._order is None:
            ids = np.asarray(self.ids, np.int64)
            if (ids[1:] > ids[:-1]).all():
                self._order = ids, None
            else:
                order = np.argsort(ids, kind="stable")
                self._order = ids[order], order
        return self._order

    def _positions(self) -> dict[str, int]:
        if self._position is None:
            self._position = {str(name): i for i, name in enumerate(self.ids)}
        return self._position

    def _unknown(self, missing: Sequence[Any]) -> UnknownId:
        some = ", ".join(repr(name) for name in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return UnknownId(
            f"{self.place} has no id {some}{more}.",
            why="They are neither stored nor on its failure list.",
            next="Extract the inputs you use, or name the store of this data.",
        )

    def _row(self, name: Any) -> int:
        ids = self.ids
        if isinstance(ids, list):
            position = self._positions().get(name) if isinstance(name, str) else None
            if position is None:
                raise self._unknown([name])
            return position
        # One id is looked up a million times an epoch: no isinstance against protocols, no NumPy scalars.
        try:
            number = -1 if type(name) is bool else index(name)
            table, order = self._order or self._search()
            at = int(table.searchsorted(number))
            if at < len(table) and table[at] == number and type(name) is not bool:
                return at if order is None else int(order[at])
        except (TypeError, OverflowError):  # no integer at all, or one beyond 64 bits
            pass
        raise self._unknown([name])

    def __contains__(self, name: object) -> bool:
        try:
            self._row(name)
        except UnknownId:
            return False
        return True

    def __getitem__(self, name: Id) -> NDArray[Any]:
        """Hidden states [T, D] of one id: a read-only view for float16 and float32, else decoded float32.

        An input on the failure list has T = 0.
        """
        row = self._row(name)
        if self._plain:
            return self._raw(row)
        raw = self._raw(row)
        out = np.empty(raw.shape, np.float32)
        self._decode(row, out)
        return out

    def raw(self, name: Id) -> NDArray[Any]:
        """The stored values of one id [T, D], never decoded: uint16 for bfloat16, int8 without scale for int8."""
        return self._raw(self._row(name))

    def _raw(self, row: int) -> NDArray[Any]:
        start, length = self._place
        return self._read(start[row], length[row])

    def stored(self, start: int, length: int) -> Stored:
        """Everything that is stored for the rows `start` to `start + length` of one record, as views where possible."""
        scale = None if self._columns.scale is None else self._columns.scale.read(start, length)
        rows, values = self._exact(start, length) or (None, None)
        return Stored(self._read(start, length), scale, rows, values)

    def _exact(self, start: int, length: int) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
        if self._columns.outliers is None:
            return None
        k, at = divmod(start, self._columns.shard_rows)
        sparse = self._columns.outliers(k) if length else None
        if sparse is None:
            return np.empty(0, np.int64), np.empty((0, self.dim), np.float32)
        return sparse.find(at, length)

    def _decode(self, row: int, out_TD: NDArray[Any]) -> None:
        """Decode the record at a position into `out_TD` [T, D]."""
        stored = self.stored(int(self._start[row]), int(self.lengths[row]))
        decode_into(out_TD, self.dtype, stored.tokens, stored.scale)
        if stored.exact_rows is not None and len(stored.exact_rows):
            out_TD[stored.exact_rows] = stored.exact

    def batch(
        self, ids: Sequence[Id] | NDArray[np.int64], out: NDArray[Any] | None = None, pad_to: int | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Gather records into one padded array.

        Args:
            ids: B ids, repeats allowed.
            out: a C-contiguous float array [B, T, D] to fill, with T at least the longest record (and `pad_to`, where
                given); None: a new one of the store's decoded dtype.
            pad_to: T of a new array; None: the longest record's length, at least 1.

        Returns:
            tokens [B, T, D], zero behind each record's end, and mask [B, T], True for tokens. An input on the
            failure list has an all-False row.

        Raises:
            UnknownId: an id is not in the store.
            StoreError: `out` has the wrong shape, or a record is longer than T.
        """
        return self.batch_rows(self.rows(ids), out, pad_to)

    def batch_rows(
        self, rows: NDArray[np.int64], out: NDArray[Any] | None = None, pad_to: int | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """`batch` for positions (`rows` gives them): spares the search where the same ids come every epoch."""
        length_B = self.lengths[rows]
        longest = int(length_B.max(initial=0))
        if length_B.min(initial=0) < 0:
            raise StoreDamaged(f"{self.path} lists a negative length.", next=f"umecache store verify {self.path}")
        if out is None:
            width = max(longest, 1) if pad_to is None else pad_to
            if longest:  # a lying length must not make us allocate: the longest record has to be there
                at = int(length_B.argmax())
                self._read(int(self._start[rows[at]]), longest)
            if longest <= width:
                out = np.empty((len(rows), width, self.dim), self._decoded)
        else:
            width = out.shape[1] if out.ndim == 3 else -1
            if out.shape != (len(rows), width, self.dim) or (pad_to is not None and pad_to != width):
                raise StoreError(
                    f"The batch buffer is {out.shape}; [{len(rows)}, {pad_to or longest}, {self.dim}] is needed."
                )
        if out is None or longest > width:
            raise StoreError(f"A record of {longest} tokens doesn't fit a batch padded to {width}.")
        mask = np.arange(width) < length_B[:, None]
        if self._plain:
            self._columns.tokens.gather(self._start[rows], length_B, out)
        else:
            for out_TD, row, length in zip(out, rows.tolist(), length_B.tolist(), strict=True):
                out_TD[length:] = 0
                if length:
                    self._decode(row, out_TD[:length])
        return out, mask

    def stored_rows(self, rows: NDArray[np.int64]) -> StoredBatch:
        """Records at positions as they are stored, padded with zeros: for decoding on another device.

        A float16, bfloat16 or int8 batch is half or a quarter of the float32 one on its way there.
        """
        length_B, start_B = self.lengths[rows], self._start[rows]
        if length_B.min(initial=0) < 0:
            raise StoreDamaged(f"{self.path} lists a negative length.", next=f"umecache store verify {self.path}")
        longest = int(length_B.max(initial=0))
        if longest:  # as in batch_rows: the longest record has to be there before anything is allocated for it
            self._read(int(start_B[length_B.argmax()]), longest)
        width = max(longest, 1)
        columns = self._columns
        tokens = np.empty((len(rows), width, self.dim), stored_dtype(self.dtype))
        columns.tokens.gather(start_B, length_B, tokens)
        scale = None
        if columns.scale is not None:
            scale = np.empty((len(rows), width), np.float32)
            columns.scale.gather(start_B, length_B, scale)
        at: list[NDArray[np.int64]] = []
        exact: list[NDArray[Any]] = []
        if columns.outliers is not None:
            for b, (start, length) in enumerate(zip(start_B.tolist(), length_B.tolist(), strict=True)):
                found = self._exact(start, length)
                if found is not None and len(found[0]):
                    at.append(np.stack([np.full(len(found[0]), b), found[0]], axis=1))
                    exact.append(found[1])
        return StoredBatch(
            tokens,
            np.arange(width) < length_B[:, None],
            scale,
            np.concatenate(at) if at else np.empty((0, 2), np.int64),
            np.concatenate(exact) if exact else np.empty((0, self.dim), np.float32),
        )

    def map_shard(self, k: int) -> None:
        """Make shard k ready, which checks its index; raises StoreDamaged. Records do this when they are first read."""
        self._columns.tokens.shard(k)
        if self._columns.scale is not None:
            self._columns.scale.shard(k)
        if self._columns.outliers is not None:
            self._columns.outliers(k)

    def ids_at(self, rows: Iterable[int]) -> list[Id]:
        """Ids at positions, as Python values."""
        ids = self.ids
        return [ids[i] for i in rows] if isinstance(ids, list) else [int(ids[i]) for i in rows]


def _reopen(path: str, fingerprint: str) -> Store:
    store = open_store(path)
    if store.fingerprint != fingerprint:
        raise StoreMismatch(f"{path} is not the store it was when its reader was sent to this process.")
    return store


def _check_shards(root: Path, manifest: dict[str, Any]) -> None:
    """Every shard's files are there and of the right size; HDF5 would silently read a missing one as zeros."""
    for k, shard in enumerate(manifest["layout"]["shards"]):
        for part in shard["files"]:
            size = size_of(inside(root, part["path"]))
            if size != part["bytes"]:
                raise StoreDamaged(
                    f"Shard {k} of {root} is damaged: {part['path']} "
                    + ("is missing." if size is None else f"has {size} bytes instead of {part['bytes']}."),
                    next=f"umecache store repair {root}",
                )


def progress(root: Path) -> tuple[int, int] | None:
    """Finished and planned shards of an unsealed store (0 planned: not known yet); None where there is none."""
    if not (root / WORK).is_dir():
        return None
    file = root / WORK / "plan.json"
    try:
        plan = read_json(file).get("plan") if file.is_file() else None
    except StoreDamaged:
        if not (root / WORK).is_dir():  # sealed between two looks
            return None
        raise
    shards = plan.get("shards") if isinstance(plan, dict) else None
    done = sum(1 for _ in (root / "receipts").glob("*.json"))
    return done, len(shards) if isinstance(shards, list) else 0


def _refuse_unfinished(root: Path) -> None:
    """Complain unless `root` may be a foreign store."""
    if not root.exists():
        raise StoreMissing(
            f"No feature store at {root}.",
            why="The path does not exist.",
            next="umecache store ls shows those that exist.",
        )
    # Looked at first: what is begun keeps its work folder until it is sealed, so neither there below means damage,
    # however long this process was kept from running between two looks.
    begun = (root / MANIFEST).is_file() or (root / "receipts").is_dir()
    found = progress(root)
    if found is not None:
        done, planned = found
        raise StoreIncomplete(
            f"{root} is not complete: {done} of {planned or 'as yet unknown'} shards.",
            why="It is still being written, or its writer stopped.",
            next="Wait for it, or run the same umecache extract command again: it goes on from there.",
        )
    if is_sealed(root) and (root / MANIFEST).is_file():  # the work folder went while we were looking: it is whole now
        return
    if begun:
        raise StoreDamaged(
            f"{root} is not sealed: its CHECKSUMS or its manifest is missing.", next=f"umecache store verify {root}"
        )
