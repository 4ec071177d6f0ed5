"""Writing a store: plan, claim, write, commit, seal.

    writer = open_writer(path, manifest=facts, ids=ids, digests=digests, lengths=lengths, dim=768)
    for shard in writer.claim():                 # until every shard is done, by this process or another
        with shard:                              # commits on success, leaves nothing behind on failure
            for position in shard.records:
                shard.write(position, encode(ids[position]))   # [T, D], float16 or float32
    facts = writer.seal()

Any number of processes may run this at once on one shared folder; killed anywhere, the same lines go on from the
finished shards and end with the same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.claims import EXPIRY, Claim, Claims
from umecache.stores.commit import CHECKSUMS, Work, checksums, is_sealed, telling
from umecache.stores.dtypes import encode, row_bytes, stored_dtype
from umecache.stores.errors import StoreError, StoreMismatch, StoreWriteFailed
from umecache.stores.files import (
    WORK,
    inside,
    make_dirs,
    pretty,
    replace_file,
    sha256_file,
    size_of,
    walk,
)
from umecache.stores.fingerprint import diff_facts, fingerprint, recipe_hash
from umecache.stores.formats import ShardShape, load_format
from umecache.stores.manifest import MANIFEST, build_manifest, read_manifest
from umecache.stores.plan import SHARD_BYTES, Plan, make_plan
from umecache.stores.receipts import Failure, Receipt, crc32c, receipt_name

POLL = 0.5
"""Seconds between looks at what other processes have finished."""

FILES = "encoder"
"""Folder of the store for small files that travel with it."""


def open_writer(
    path: str | Path,
    *,
    manifest: Mapping[str, Any],
    ids: Sequence[int] | Sequence[str] | NDArray[np.int64],
    digests: Sequence[str] | NDArray[np.uint8],
    lengths: Sequence[int] | NDArray[np.int64],
    dim: int,
    format: str = "zarr",
    dtype: str = "float16",
    shard_records: int | Sequence[int] | None = None,
    shard_bytes: int = SHARD_BYTES,
    compression: str | None = None,
    failures: Mapping[int, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    expiry: float = EXPIRY,
) -> Writer:
    """Start a store, or go on with one that the same arguments began.

    Args:
        path: the store's folder; made if need be, with its parents.
        manifest: facts: `recipe` (hashed; its "dtype" is filled in), and reported: `origin`, `dataset`, `grid`,
            `modality`, `model`; any other keys are kept.
        ids: n integers or n strings, all different.
        digests: hex sha256 of each input's content, or [n, 32] uint8; equal digests are stored once.
        lengths: tokens of each input; 0 for inputs known to be unreadable.
        dim: D, width of the hidden states.
        format: "zarr" or "hdf5".
        dtype: "float16", "float32", "bfloat16" or "int8".
        shard_records: distinct inputs per shard (or the count of each shard); None: what fits `shard_bytes`.
        shard_bytes: target size of a shard.
        compression: None, "zstd" (zarr) or "gzip" (hdf5); compressed stores can't be mapped and read slower.
        failures: reason by position, for inputs known to be unreadable.
        files: small files that travel in the store, below `encoder/`.
        expiry: seconds without a heartbeat after which another host's claim is taken over.

    Raises:
        StoreMismatch: a store with other facts is there; says which.
        StoreError: the arguments contradict each other, or `path` holds something that is no store.
        StoreWriteFailed: the folder can't be written.
    """
    root = Path(path)
    layout = load_format(format)
    stored_dtype(dtype)
    if compression not in layout.compressions:
        allowed = " or ".join(str(c) for c in layout.compressions)
        raise StoreError(f"Format {format!r} can't use compression {compression!r}.", why=f"It knows {allowed}.")
    recipe = {**manifest.get("recipe", {}), "dtype": dtype}
    if manifest.get("recipe", {}).get("dtype", dtype) != dtype:
        raise StoreError(f"The recipe says {manifest['recipe']['dtype']}, the writer {dtype}.")
    facts = {**manifest, "recipe": recipe}
    extra = {_travel_name(name): data for name, data in sorted((files or {}).items())}

    def planned(cut: int | Sequence[int] | None) -> Plan:
        size = row_bytes(dtype, dim)
        return make_plan(
            ids,
            digests,
            lengths,
            dim=dim,
            row_bytes=size,
            shard_records=cut,
            shard_bytes=shard_bytes,
            failures=failures,
        )

    plan = planned(shard_records)
    begun = _begun_shards(root) if shard_records is None else None
    if begun is not None and sum(begun) == len(plan.first):
        plan = planned(begun)
    wanted = {
        "format_version": 1,
        "fingerprint": fingerprint(recipe, plan.ids, plan.digests),
        "recipe_hash": recipe_hash(recipe),
        "format": format,
        "dtype": dtype,
        "compression": compression,
        "plan": plan.facts(),
        "failures": {str(position): reason for position, reason in plan.failures.items()},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in extra.items()},
        "facts": facts,
    }
    if not is_sealed(root):
        _refuse_other_folder(root)
        with telling(root, "the plan", ["Nothing was written yet."]):
            make_dirs(root.absolute())
            published = Work(root).create(wanted)
        _compare(root, wanted, published)
        facts = published["facts"]
    if is_sealed(root):  # already, or by another process meanwhile
        _compare(root, wanted, _wanted_of(read_manifest(root), wanted))
    return Writer(root, plan, facts, wanted, extra, expiry)


def _travel_name(name: str) -> str:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\n" in name:
        raise StoreError(f"A file that travels in a store can't be called {name!r}.")
    return f"{FILES}/{pure}"


def _begun_shards(root: Path) -> list[int] | None:
    """How an unfinished store is cut, so that a changed default never splits a half-written one."""
    if is_sealed(root):
        return [shard["records"] for shard in read_manifest(root)["layout"]["shards"]] or None
    work = Work(root)
    if not (work.folder / "plan.json").exists():
        return None
    shards = work.plan().get("plan", {}).get("shards")
    return [int(n) for n in shards] if isinstance(shards, list) and shards else None


def _refuse_other_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is a file; a store is a folder.", next="Name another folder with --store.")
    if root.is_dir() and not (root / WORK).exists() and any(root.iterdir()):
        raise StoreError(
            f"{root} is neither empty nor an unfinished store.",
            why=f"It holds {', '.join(sorted(p.name for p in root.iterdir())[:3])}.",
            next="Name another folder with --store, or empty this one.",
        )


def _compare(root: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse a store that holds something else, and say what."""
    if found["facts"].get("recipe") != wanted["facts"]["recipe"]:
        lines = diff_facts(found["facts"].get("recipe", {}), wanted["facts"]["recipe"], "recipe.")
    else:
        lines = diff_facts(
            {key: found[key] for key in ("format", "dtype", "compression", "files", "failures")},
            {key: wanted[key] for key in ("format", "dtype", "compression", "files", "failures")},
        )
        here, asked = found["plan"], wanted["plan"]
        if found["fingerprint"] != wanted["fingerprint"]:
            same = here["records"] == asked["records"]
            many = (
                "as many, but not the same ones" if same else f"{here['records']} there, {asked['records']} asked for"
            )
            lines.append(f"inputs: {many}")
        elif here != asked:
            lines += diff_facts(here, asked)
    if lines:
        words = "; ".join(
            line.replace(" in the first", " there").replace(" in the second", " asked for") for line in lines
        )
        raise StoreMismatch(
            f"The store {root} holds something else than this run would write.",
            why=f"{words}.",
            next=f"Name another folder with --store, or remove it: rm -r {root}",
        )


def _wanted_of(manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A sealed store's facts in the form that `_compare` reads; its cut into shards is settled and not compared."""
    here = {key: manifest[key] for key in ("records", "distinct", "tokens", "dim")}
    return {
        **wanted,
        **{key: manifest[key] for key in ("fingerprint", "recipe_hash", "format", "dtype", "compression")},
        "plan": {**wanted["plan"], **here},
        "facts": manifest,
    }


class Writer:
    """A store being written; made by `open_writer`.

    Attributes:
        path: the store.
        plan: where everything will lie.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        facts: Mapping[str, Any],
        wanted: Mapping[str, Any],
        files: Mapping[str, bytes],
        expiry: float,
    ) -> None:
        self.path, self.plan = path, plan
        self._facts, self._wanted, self._files = facts, wanted, files
        self._format = load_format(wanted["format"])
        self._dtype: str = wanted["dtype"]
        self._compression: str | None = wanted["compression"]
        self._work = Work(path)
        self._claims = Claims(self._work.claims, expiry=expiry)
        if self.complete:
            self._work.remove()  # a process was killed right after sealing

    @property
    def complete(self) -> bool:
        """Whether the store is sealed."""
        return is_sealed(self.path)

    @property
    def shards(self) -> int:
        """All shards of the plan."""
        return self.plan.shards

    @property
    def done(self) -> int:
        """Shards that are finished, by whichever process."""
        return self.shards if self.complete else sum(self._receipt(k) is not None for k in range(self.shards))

    @property
    def bytes(self) -> int:
        """Bytes of token data that the whole store will hold, without compression."""
        return self.plan.tokens * row_bytes(self._dtype, self.plan.dim)

    def _shard_ids(self, k: int) -> list[Any]:
        ids = self.plan.ids
        return [ids[i] for i in self.plan.shard(k)] if isinstance(ids, list) else ids[self.plan.shard(k)].tolist()

    def _receipt(self, k: int) -> Receipt | None:
        return self._work.receipt(k, self._shard_ids(k), self._format.shard_files(k, self._dtype))

    def claim(self) -> Iterator[ShardWriter]:
        """Yield one shard after the other, each exclusively this process's, until no shard is left to do.

        Where others hold all that is left, waits until they finish or are gone. Each shard is to be used as a context
        manager; one that is not entered is given back.
        """
        left = [] if self.complete else list(range(self.shards))
        while left := [k for k in left if self._receipt(k) is None]:
            if self.complete:
                return
            got = False
            for k in left:
                claim = self._acquire(k)
                if claim is None:
                    continue
                got = True
                shard = ShardWriter(self, k, claim)
                try:
                    yield shard
                finally:
                    shard.discard()
            if not got:
                time.sleep(POLL)

    def _acquire(self, k: int) -> Claim | None:
        if self._receipt(k) is not None:
            return None
        try:
            claim = self._claims.acquire(f"{k:06d}")
        except OSError as error:
            if self.complete:  # another process sealed the store and removed the work folder
                return None
            with telling(self.path, f"the claim of shard {k}", self._safe()):
                raise error
        if claim is not None and self._receipt(k) is not None:  # its last owner finished while we were looking
            self._claims.release(claim)
            return None
        return claim

    def _safe(self) -> Iterator[str]:
        yield f"{self.done} of {self.shards} shards are finished and safe; nothing partial remains."

    def seal(self) -> dict[str, Any]:
        """Write ids, places, manifest and CHECKSUMS once every shard is done; harmless when it has happened already.

        Returns:
            `facts`: the manifest, with `path`, `complete` and `bytes` (of all files).

        Raises:
            StoreError: a shard is not done.
            StoreWriteFailed: disk full and the like; the finished shards are safe.
        """
        while not self.complete:
            receipts = [self._receipt(k) for k in range(self.shards)]
            missing = sum(receipt is None for receipt in receipts)
            if missing:
                raise StoreError(f"{self.path} can't be sealed: {missing} of {self.shards} shards are not done.")
            try:
                claim = self._claims.acquire("seal")
                if claim is None:
                    time.sleep(POLL / 10)
                    continue
                try:
                    with telling(self.path, "the index", self._safe()):
                        self._seal([receipt for receipt in receipts if receipt is not None])
                finally:
                    self._claims.release(claim)
            except FileNotFoundError:
                if not self.complete:
                    raise
        self._work.remove()
        return self.facts()

    def _seal(self, receipts: list[Receipt]) -> None:
        if self.complete:
            return
        length, failed = self._outcome(receipts)
        files: dict[str, bytes] = dict(
            self._format.index_files(
                self.plan,
                length,
                dtype=self._dtype,
                compression=self._compression,
                files=[[fact.path for fact in receipt.files] for receipt in receipts],
                scratch=self._work.tmp,
            )
        )
        files.update(self._files)
        shards = [
            {
                "records": len(receipt.ids),
                "rows": receipt.rows,
                "files": [{"path": fact.path, "bytes": fact.bytes} for fact in receipt.files],
            }
            for receipt in receipts
        ]
        files[MANIFEST] = pretty(
            build_manifest(
                self._facts,
                self.plan,
                format=self._format.name,
                dtype=self._dtype,
                compression=self._compression,
                fingerprint=self._wanted["fingerprint"],
                recipe_hash=self._wanted["recipe_hash"],
                failures=failed,
                shards=shards,
                outliers=sum(receipt.outliers for receipt in receipts),
            )
        )
        for name, data in files.items():
            make_dirs((self.path / name).parent)
            replace_file(self.path / name, data, scratch=self._work.tmp)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        sums.update({fact.path: fact.sha256 for receipt in receipts for fact in receipt.files})
        for name in walk(self.path):
            if name not in sums and name != CHECKSUMS:
                if _leftover(name, receipts):
                    inside(self.path, name).unlink()
                    continue
                sums[name] = sha256_file(inside(self.path, name))
        replace_file(self.path / CHECKSUMS, checksums(sums), scratch=self._work.tmp)

    def _outcome(self, receipts: list[Receipt]) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """Final lengths, and the failure list over all ids, in the order of the ids."""
        bad: dict[int, Failure] = {}
        for receipt in receipts:
            for failure in receipt.failures:
                bad[int(self.plan.bounds[receipt.shard]) + failure.record] = failure
        length = self.plan.length.copy()
        positions = np.flatnonzero(np.isin(self.plan.record, np.fromiter(bad, np.int64, len(bad)))).tolist()
        length[positions] = 0
        listed = {**dict.fromkeys(positions), **dict.fromkeys(self.plan.failures)}
        failed = []
        for position in sorted(listed):
            found = bad.get(int(self.plan.record[position]))
            reason = self.plan.failures[position] if found is None else found.reason
            name = self.plan.ids[position]
            failed.append(
                {
                    "id": name if isinstance(name, str) else int(name),
                    "reason": reason,
                    "sha256": None if found is None else found.sha256,
                    "tokens": int(self.plan.length[position]),
                }
            )
        return length, failed

    def facts(self) -> dict[str, Any]:
        """The sealed store's manifest, with `path`, `complete` and `bytes`."""
        total = sum(size_of(self.path / name) or 0 for name in walk(self.path))
        return {"path": str(self.path), "complete": True, "bytes": total, **read_manifest(self.path)}


def _leftover(name: str, receipts: list[Receipt]) -> bool:
    """Whether a file is one of a shard but of no receipt: its process was killed before it could sign for it."""
    top = PurePosixPath(name).parts[0]
    if top == "receipts":
        return name not in {receipt_name(receipt.shard) for receipt in receipts}
    return top in ("tokens", "scale", "exact", "shards")


class ShardWriter:
    """One claimed shard, used as a context manager; see the module.

    Attributes:
        index: k.
        records: positions (into ids) of the records to be written or failed, in stored order.
    """

    def __init__(self, writer: Writer, k: int, claim: Claim) -> None:
        self.index = k
        self.records: list[int] = writer.plan.shard(k).tolist()
        self._writer, self._claim = writer, claim
        self._order = {position: i for i, position in enumerate(self.records)}
        self._crc: list[str | None] = [None] * len(self.records)
        self._failures: dict[int, Failure] = {}
        self._outliers = 0
        self._folder = writer._work.tmp / f"{k:06d}-{claim.nonce}"
        self._open = self._closed = False

    def __enter__(self) -> ShardWriter:
        writer, plan = self._writer, self._writer.plan
        if self._closed:
            raise StoreError(f"Shard {self.index} was given back already.")
        with telling(writer.path, self._name(), writer._safe()):
            for left in writer._work.tmp.glob(f"{self.index:06d}-*"):  # of an owner that is gone
                shutil.rmtree(left, ignore_errors=True)
            self._folder.mkdir()
            shape = ShardShape(
                k=self.index,
                rows=int(plan.used[self.index]),
                shard_rows=plan.shard_rows,
                chunk_rows=plan.chunk_rows,
                dim=plan.dim,
                dtype=writer._dtype,
                compression=writer._compression,
            )
            self._sink = writer._format.sink(self._folder, shape)
        self._open = True
        return self

    def _name(self) -> str:
        return f"shard {self.index + 1} of {self._writer.shards}"

    def write(self, position: int, values_TD: NDArray[Any]) -> None:
        """Place one record.

        Args:
            position: one of `records`.
            values_TD: float16 or float32 [T, D], T as planned.

        Raises:
            StoreWriteFailed: the disk is full, or the dtype can't hold a value.
            StoreError: the shape or the position is not the planned one.
        """
        plan = self._writer.plan
        i = self._position(position)
        expected = (int(plan.length[position]), plan.dim)
        if values_TD.shape != expected or values_TD.dtype not in (np.float16, np.float32):
            raise StoreError(
                f"The record of {plan.ids[position]!r} is {values_TD.dtype} {values_TD.shape}.",
                why=f"Planned is float16 or float32 {expected}.",
            )
        stored = encode(self._writer._dtype, values_TD, who=f"id {plan.ids[position]!r}")
        with telling(self._writer.path, self._name(), self._writer._safe()):
            self._sink.put(int(plan.start[position]) - self.index * plan.shard_rows, stored)
        self._crc[i] = crc32c(stored)
        self._outliers += 0 if stored.exact_rows is None else len(stored.exact_rows)

    def fail(self, position: int, reason: str, file_sha256: str | None = None) -> None:
        """Record that an input can't be read: its place stays unwritten, its length becomes 0."""
        i = self._position(position)
        self._failures[i] = Failure(i, reason, file_sha256)

    def _position(self, position: int) -> int:
        if not self._open:
            raise StoreError(f"Shard {self.index} is not open: use `with shard:`.")
        i = self._order.get(position)
        if i is None or self._crc[i] is not None or i in self._failures:
            raise StoreError(f"Position {position} is not one of shard {self.index}'s records still to be written.")
        return i

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self.discard()

    def _commit(self) -> None:
        writer, plan = self._writer, self._writer.plan
        undone = [p for p, i in self._order.items() if self._crc[i] is None and i not in self._failures]
        if undone:
            raise StoreError(f"Shard {self.index} lacks {len(undone)} records, the first at position {undone[0]}.")
        receipt = Receipt(
            shard=self.index,
            start=self.index * plan.shard_rows,
            rows=int(plan.used[self.index]),
            ids=tuple(writer._shard_ids(self.index)),
            crc32c=tuple(self._crc),
            outliers=self._outliers,
            failures=tuple(self._failures[i] for i in sorted(self._failures)),
            files=(),
        )
        try:
            with telling(writer.path, self._name(), writer._safe()):
                files = self._sink.finish()
                if writer._claims.mine(self._claim):
                    writer._work.commit(files, receipt)
                # Else this process was thought dead and another one does the shard: it writes the same bytes.
        except StoreWriteFailed:
            if not self._folder.exists() and writer._receipt(self.index) is not None:
                return  # likewise, and the other process is done already
            raise

    def discard(self) -> None:
        """Drop what was not committed and give the claim back; harmless when done already."""
        if self._closed:
            return
        self._closed = True
        if self._open:
            self._open = False
            self._sink.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer._claims.release(self._claim)
