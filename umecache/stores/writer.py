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
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umecache.stores.claims import EXPIRY, Claim, Claims
from umecache.stores.commit import CHECKSUMS, Work, is_sealed, telling
from umecache.stores.dtypes import row_bytes, stored_dtype
from umecache.stores.errors import StoreDamaged, StoreError, StoreMismatch
from umecache.stores.files import WORK, make_dirs, size_of, walk
from umecache.stores.fingerprint import diff_facts, fingerprint, recipe_hash
from umecache.stores.formats import load_format
from umecache.stores.manifest import FORMAT_VERSION, given, read_manifest
from umecache.stores.plan import SHARD_BYTES, Plan, make_plan
from umecache.stores.receipts import receipt_name
from umecache.stores.seal import seal
from umecache.stores.shard import Job, ShardWriter

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
    redo: Sequence[int] | None = None,
    expiry: float = EXPIRY,
) -> Writer:
    """Start a store, or go on with one that the same arguments began.

    Args:
        path: the store's folder; made if need be, with its parents.
        manifest: facts: `recipe` (hashed; its "dtype" is filled in), and reported: `origin`, `dataset`, `grid`,
            `modality`, `model`; any other keys are kept. Nothing that changes from run to run.
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
        redo: open a sealed store again and do these shards anew (repair); the others stay as they are.
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
        "format_version": FORMAT_VERSION,
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
    if redo is not None and not Work(root).exists():
        _unseal(root, wanted, redo)
    published: Mapping[str, Any] = wanted
    if not is_sealed(root):
        _refuse_other_folder(root)
        try:
            with telling(root, "the plan", ["Nothing was written yet."]):
                make_dirs(root.absolute())
                published = Work(root).create(wanted)
        except StoreError:
            if not is_sealed(root):  # else another process sealed it and took the work folder away under our feet
                raise
        else:
            _compare(root, wanted, published)
    if is_sealed(root):  # already, or by another process meanwhile
        published = _wanted_of(read_manifest(root), wanted)
        _compare(root, wanted, published)
    work = Work(root)
    job = Job(root, plan, layout, dtype, compression, work, Claims(work.claims, expiry=expiry))
    return Writer(job, published["facts"], wanted, extra)


def _travel_name(name: str) -> str:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\n" in name:
        raise StoreError(f"A file that travels in a store can't be called {name!r}.")
    return f"{FILES}/{pure}"


def begun_facts(path: str | Path) -> Mapping[str, Any] | None:
    """The facts that the store at `path` was begun with, finished or not; None where there is none that can be read."""
    root = Path(path)
    try:
        if is_sealed(root):
            return read_manifest(root)
        facts = Work(root).plan().get("facts") if Work(root).exists() else None
    except (StoreDamaged, AttributeError):
        return None  # whoever opens it will say so
    return facts if isinstance(facts, Mapping) else None


def _begun_shards(root: Path) -> list[int] | None:
    """How a store that is there is cut, so that a changed default never splits a half-written one."""
    try:
        if is_sealed(root):
            return [shard["records"] for shard in read_manifest(root)["layout"]["shards"]] or None
        work = Work(root)
        shards = work.plan().get("plan", {}).get("shards") if work.exists() else None
    except (StoreDamaged, AttributeError):
        return None  # whoever compares will say so
    return [int(n) for n in shards] if isinstance(shards, list) and shards else None


def _refuse_other_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is a file; a store is a folder.", next="Name another folder with --store.")
    names = sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []
    # Another process may begin or seal the store at this very moment: one listing, then a second look.
    if names and not any(name.startswith(WORK) for name in names) and not is_sealed(root):
        raise StoreError(
            f"{root} is neither empty nor an unfinished store.",
            why=f"It holds {', '.join(names[:3])}.",
            next="Name another folder with --store, or empty this one.",
        )


def _compare(root: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse a store that holds something else, and say what."""
    try:
        if found["facts"]["recipe"] != wanted["facts"]["recipe"]:
            lines = diff_facts(found["facts"]["recipe"], wanted["facts"]["recipe"], "recipe.")
        else:
            keys = ("format", "dtype", "compression", "files", "failures")
            lines = diff_facts({key: found[key] for key in keys}, {key: wanted[key] for key in keys})
            here, asked = found["plan"], wanted["plan"]
            if found["fingerprint"] != wanted["fingerprint"]:
                counts = f"{here['records']} there, {asked['records']} asked for"
                same = here["records"] == asked["records"]
                lines.append(f"inputs: {'as many, but not the same ones' if same else counts}")
            elif here != asked:
                lines += diff_facts(here, asked)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"{root / WORK / 'plan.json'} is malformed.", next=f"rm -r {root}") from error
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


def _unseal(root: Path, wanted: Mapping[str, Any], redo: Sequence[int]) -> None:
    """Turn a sealed store back into an unfinished one that lacks the shards `redo`."""
    facts = wanted["facts"]
    try:
        manifest = read_manifest(root)
    except StoreDamaged:
        pass  # the manifest itself is to be written anew; receipts still tell which shards fit the plan
    else:
        _compare(root, wanted, _wanted_of(manifest, wanted))
        facts = given(manifest)  # the versions and settings that made the other shards
    with telling(root, "the plan", ["Nothing was changed yet."]):
        Work(root).create({**wanted, "facts": facts})
        # Receipts first: stopped here, the store is still sealed and verify still finds the damage.
        for k in redo:
            (root / receipt_name(k)).unlink(missing_ok=True)
        (root / CHECKSUMS).unlink(missing_ok=True)


class Writer:
    """A store being written; made by `open_writer`.

    Attributes:
        path: the store.
        plan: where everything will lie.
        notes: facts that are only reported (library versions, batch size, ...) and differ from those of the run that
            began the store, in words; both are kept in the manifest.
    """

    def __init__(
        self, job: Job, facts: Mapping[str, Any], wanted: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        self._job, self._facts, self._wanted, self._files = job, facts, wanted, files
        self.path, self.plan = job.path, job.plan
        here, ours = facts.get("origin"), wanted["facts"].get("origin")
        self.notes: list[str] = [] if here == ours else diff_facts({"origin": here}, {"origin": ours})
        if self.complete:
            job.work.remove()  # a process was killed right after sealing

    @property
    def complete(self) -> bool:
        """Whether the store is sealed."""
        return self._job.complete

    @property
    def shards(self) -> int:
        """All shards of the plan."""
        return self.plan.shards

    @property
    def done(self) -> int:
        """Shards that are finished, by whichever process."""
        return self.shards - len(self.left())

    def left(self, among: Sequence[int] | None = None) -> list[int]:
        """Shards (of those named) that are not finished by any process."""
        return [] if self.complete else self._job.left(range(self.shards) if among is None else among)

    @property
    def finished_records(self) -> int:
        """Distinct records in finished shards, by whichever process."""
        counts = np.diff(self.plan.bounds)
        return int(counts.sum() - counts[self.left()].sum())

    @property
    def bytes(self) -> int:
        """Bytes of token data that the whole store will hold, without compression."""
        return self.plan.tokens * row_bytes(self._job.dtype, self.plan.dim)

    def claim(self) -> Iterator[ShardWriter]:
        """Yield one shard after the other, each exclusively this process's, until no shard is left to do.

        Where others hold all that is left, waits until they finish or are gone. Each shard is to be used as a context
        manager; one that is not entered is given back.
        """
        for shard in self.offers():
            if shard is None:
                time.sleep(POLL)
                continue
            try:
                yield shard
            finally:
                shard.discard()

    def offers(self) -> Iterator[ShardWriter | None]:
        """`claim` without waiting, for pipelines: the next shard may be taken before the last is committed.

        Yields None where all that is left is held, by others or by the caller; what is yielded is the caller's, to
        use as a context manager or to `discard`.
        """
        left = list(range(self.shards))
        while not self.complete and (left := self._job.left(left)):
            yield self._next(left)

    def take(self, k: int) -> ShardWriter | None:
        """Shard k, to use as a context manager or to `discard`; None where it is held or finished."""
        return None if self.complete else self._next([k])

    def _next(self, left: list[int]) -> ShardWriter | None:
        """The first of these shards that can be claimed."""
        current = self._job.claims.current()
        for k in left:
            claim = self._acquire(f"{k:06d}", current)
            if claim is None:
                continue
            if self._job.receipt(k) is None:
                if self.notes:
                    self._job.work.note_origin(self._wanted["facts"].get("origin"))
                return ShardWriter(self._job, k, claim)
            self._job.claims.release(claim)  # its last owner finished while we were looking
        return None

    def _acquire(self, name: str, current: Mapping[str, Path] | None = None) -> Claim | None:
        with telling(self.path, f"the claim {name}", self._job.safe()):
            try:
                return self._job.claims.acquire(name, current)
            except FileNotFoundError:
                if self.complete:  # another process sealed the store and removed the work folder
                    return None
                raise

    def seal(self) -> dict[str, Any]:
        """Write ids, places, manifest and CHECKSUMS once every shard is done; harmless when it has happened already.

        Returns:
            `facts`: the manifest, with `path`, `complete` and `bytes` (of all files).

        Raises:
            StoreError: a shard is not done.
            StoreWriteFailed: disk full and the like; the finished shards are safe.
        """
        while not self.complete:
            claim = self._acquire("seal")
            if claim is None:
                time.sleep(POLL / 10)
                continue
            try:
                with telling(self.path, "the index", self._job.safe()):
                    seal(
                        self._job,
                        self._all_facts(),
                        self._files,
                        fingerprint=self._wanted["fingerprint"],
                        recipe_hash=self._wanted["recipe_hash"],
                    )
            finally:
                self._job.claims.release(claim)
        self._job.work.remove()
        return self.facts()

    def _all_facts(self) -> Mapping[str, Any]:
        known = list(self._facts.get("other_origins") or [])
        others = known + [origin for origin in self._job.work.other_origins() if origin not in known]
        return {**self._facts, "other_origins": others} if others else self._facts

    def facts(self) -> dict[str, Any]:
        """The sealed store's manifest, with `path`, `complete` and `bytes`."""
        total = sum(size_of(self.path / name) or 0 for name in walk(self.path))
        return {"path": str(self.path), "complete": True, "bytes": total, **read_manifest(self.path)}
