"""Is every byte of a store what it was when it was sealed?

    found = verify(path)                      # regenerates CHECKSUMS and compares it byte for byte
    found = verify(path, sample=0.05)         # all small files, and 5 % of the records by their own checksums
    found.ok, found.damaged                   # [Damage(shard=3, ids=(25, 30), reason="..."), ...]

A full check reads every byte twice (sha256 of files, crc32c of records, the second time from the page cache). Besides
the list of files it checks that what the files say agrees: receipts with shards, places with the plan, the fingerprint
with the ids and digests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from umecache.stores.commit import CHECKSUMS, checksums
from umecache.stores.dtypes import stored_dtype
from umecache.stores.errors import StoreDamaged, StoreError, StoreIncomplete, StoreMissing
from umecache.stores.files import inside, read_small, sha256_file, size_of, walk
from umecache.stores.fingerprint import fingerprint, recipe_hash
from umecache.stores.manifest import MANIFEST, read_manifest
from umecache.stores.plan import make_plan
from umecache.stores.reader import Id, Store, progress
from umecache.stores.receipts import Receipt, crc32c, read_receipt, receipt_name
from umecache.stores.seal import outcome

Tick = Callable[[int], None]
"""Told of bytes checked, for progress bars."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong."""

    shard: int | None  # None: a file that belongs to no shard
    ids: tuple[Id, ...]  # every id whose record is damaged
    reason: str

    def as_json(self) -> dict[str, Any]:
        """As `store verify --json` prints it."""
        return {"shard": self.shard, "ids": list(self.ids), "reason": self.reason}


def damaged_shards(path: str | Path) -> list[int]:
    """Shards to be written again, after a full check: `open_writer(..., redo=damaged_shards(path))` does just those."""
    return verify(path).shards


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found."""

    path: str
    records: int  # ids in the store
    checked: int  # distinct records whose bytes were compared
    damaged: tuple[Damage, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.damaged

    @property
    def shards(self) -> list[int]:
        """Shards to be written again."""
        return sorted({damage.shard for damage in self.damaged if damage.shard is not None})


def verify(
    path: str | Path,
    *,
    sample: float | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    tick: Tick = lambda n: None,
) -> Verification:
    """Check a sealed store.

    Args:
        sample: share of the records, 0 to 1; None: every byte of every file. A sample also checks all small files and
            the size of every shard, and takes at least one record of each shard.
        seconds: stop a sample after this time (at least one record is checked).
        seed: of the sample; None: another one every time, so that repeated checks reach everything.
        tick: called with the number of bytes just checked.

    Raises:
        StoreMissing, StoreIncomplete: there is no sealed store to check.
        StoreError: it is a foreign store, which carries no checksums.
    """
    root = Path(path).resolve()
    if sample is not None and not 0 < sample <= 1:
        raise StoreError(f"The sample is {sample}; it is a share between 0 and 1 (5% is 0.05).")
    _refuse(root)
    damaged: list[Damage] = []
    try:
        manifest: dict[str, Any] | None = read_manifest(root)
    except StoreDamaged as error:
        manifest = None
        damaged.append(Damage(None, (), error.what))
    owner = _owners(root, manifest)
    full = sample is None
    wrong = _check_list(root, owner, full, tick, damaged)
    receipts: list[Receipt | None] = []
    shards = manifest["layout"]["shards"] if manifest else []
    for k, shard in enumerate(shards):
        receipts.append(_receipt(root, k, shard, wrong))
    store = _open(root, damaged, wrong) if manifest else None
    checked = 0
    if manifest and store:
        damaged += _check_facts(store, receipts)
        checked = _check_records(store, receipts, wrong, sample, seconds, seed, tick, damaged)
    damaged += [Damage(k, _ids_of_shard(store, k), reason) for k, reason in sorted(wrong.items())]
    records = manifest["records"] if manifest else 0
    return Verification(
        str(root), records, checked, tuple(sorted(damaged, key=lambda d: (d.shard is None, d.shard or 0)))
    )


def _refuse(root: Path) -> None:
    found = progress(root) if root.is_dir() and not (root / CHECKSUMS).exists() else None
    if found is not None:
        raise StoreIncomplete(
            f"{root} is not complete: {found[0]} of {found[1]} shards.",
            why="Only a sealed store can be verified.",
            next="Run the same umecache extract command again, then verify.",
        )
    if not any((root / name).exists() for name in (CHECKSUMS, MANIFEST, "receipts")):
        if root.is_file() or any((root / name).exists() for name in ("zarr.json", "index.h5")):
            raise StoreError(f"{root} was not written by umecache and carries no checksums.")
        raise StoreMissing(f"No feature store at {root}.", next="umecache store ls shows the stores that exist.")


def _owners(root: Path, manifest: dict[str, Any] | None) -> dict[str, int]:
    """Which shard a file belongs to, by relative path."""
    owner: dict[str, int] = {}
    for k, shard in enumerate(manifest["layout"]["shards"] if manifest else []):
        owner[receipt_name(k)] = k
        owner.update({part["path"]: k for part in shard["files"]})
    return owner


def _check_list(root: Path, owner: dict[str, int], full: bool, tick: Tick, damaged: list[Damage]) -> dict[int, str]:
    """Compare the files with CHECKSUMS; returns the damaged shards, appends what belongs to none."""
    wrong: dict[int, str] = {}

    def vouched(name: str) -> bool:
        """The list is wrong and not the shard: its receipt says what the files hold. Nothing is to be encoded again."""
        mine = [other for other, k in owner.items() if k == owner[name] and other in signed]
        same = bool(mine) and all(found.get(other) == signed[other] for other in mine)
        return same and (name in signed or name not in listed)  # a receipt that changed vouches for nothing

    def note(name: str, reason: str) -> None:
        if name in owner and not vouched(name):
            wrong.setdefault(owner[name], f"{name} {reason}.")
        else:
            damaged.append(Damage(None, (), f"{name} {reason}."))

    listing: bytes | None = None
    try:
        listing = read_small(inside(root, CHECKSUMS))
    except StoreDamaged as error:
        damaged.append(Damage(None, (), error.what))
    listed = dict(_lines(listing or b""))
    signed = _signed(root, owner)
    present = set(walk(root))
    present.discard(CHECKSUMS)
    found: dict[str, str] = {}
    for name in sorted(present):
        try:
            file = inside(root, name)
        except StoreDamaged:
            note(name, "leads out of the store")
            continue
        size = size_of(file)
        if size is None:
            note(name, "is no regular file")
        elif name in signed and not full:
            found[name] = signed[name]
        else:
            try:
                found[name] = sha256_file(file)
            except OSError as error:
                note(name, f"can't be read: {error.strerror}")
            tick(size)
    for name in sorted(set(found) - set(listed)) if listing is not None else ():
        note(name, "is not listed in CHECKSUMS")
    for name, expected in listed.items():
        if name not in present:
            note(name, "is missing")
        elif found.get(name, expected) != expected:
            note(name, "has changed")
    if listing is not None and not damaged and not wrong and checksums(found) != listing:
        damaged.append(Damage(None, (), f"{CHECKSUMS} itself has changed."))
    return wrong


def _signed(root: Path, owner: dict[str, int]) -> dict[str, str]:
    """What the receipts say of the shards' files, which a sample doesn't read as a whole."""
    signed: dict[str, str] = {}
    for k in sorted(set(owner.values())):
        try:
            signed.update({fact.path: fact.sha256 for fact in read_receipt(root, k).files if owner.get(fact.path) == k})
        except StoreDamaged:
            continue  # told with the receipts
    return signed


def _lines(listing: bytes) -> Iterable[tuple[str, str]]:
    for line in listing.decode("utf-8", "replace").splitlines():
        checksum, _, name = line.partition("  ")
        if name:
            yield name, checksum


def _receipt(root: Path, k: int, shard: dict[str, Any], wrong: dict[int, str]) -> Receipt | None:
    """Shard k's receipt, if it agrees with the manifest and the files."""
    try:
        receipt = read_receipt(root, k)
    except StoreDamaged as error:
        wrong.setdefault(k, error.what)
        return None
    told = [{"path": fact.path, "bytes": fact.bytes} for fact in receipt.files]
    if (
        receipt.shard != k
        or len(receipt.ids) != shard["records"]
        or receipt.rows != shard["rows"]
        or told != shard["files"]
    ):
        wrong.setdefault(k, f"{receipt_name(k)} and the manifest disagree.")
        return None
    try:
        for fact in receipt.files:
            size = size_of(inside(root, fact.path))
            if size is None:
                wrong.setdefault(k, f"{fact.path} is missing.")
            elif size != fact.bytes:
                wrong.setdefault(k, f"{fact.path} has {size} bytes instead of {fact.bytes}.")
    except StoreDamaged as error:  # a path that leads out of the store
        wrong.setdefault(k, error.what)
        return None
    return receipt


def _open(root: Path, damaged: list[Damage], wrong: dict[int, str]) -> Store | None:
    """The store, opened in spite of damaged shards where its index is sound."""
    try:
        return Store(root, lenient=True)
    except StoreError as error:
        if not damaged and not wrong:
            damaged.append(Damage(None, (), error.what))
        return None


def _check_facts(store: Store, receipts: list[Receipt | None]) -> list[Damage]:
    """What the metadata files say must follow from one another."""
    manifest, wrong = store.manifest, []
    try:
        digests = store.digests
        if digests is None:
            raise StoreDamaged("The digests are missing.")
        if recipe_hash(manifest["recipe"]) != manifest["recipe_hash"]:
            wrong.append("The manifest's recipe hash is not that of its recipe.")
        if fingerprint(manifest["recipe"], store.ids, digests) != manifest["fingerprint"]:
            wrong.append("The manifest's fingerprint is not that of the ids, digests and recipe.")
        if all(receipt is not None for receipt in receipts):
            wrong += _check_places(store, [receipt for receipt in receipts if receipt is not None])
    except StoreError as error:
        wrong.append(error.what)
    except (ValueError, TypeError) as error:  # a recipe that is no JSON, say NaN
        wrong.append(f"The manifest contradicts itself: {error}.")
    return [Damage(None, (), reason) for reason in wrong]


def _check_places(store: Store, receipts: list[Receipt]) -> list[str]:
    manifest = store.manifest
    rows = store.rows([failure["id"] for failure in manifest["failures"]])
    lengths = store.lengths.copy()
    lengths[rows] = [failure["tokens"] for failure in manifest["failures"]]
    known = {
        int(row): failure["reason"]
        for row, failure in zip(rows, manifest["failures"], strict=True)
        if not failure["tokens"]
    }
    cut = [shard["records"] for shard in manifest["layout"]["shards"]]
    digests = store.digests
    assert digests is not None
    try:
        plan = make_plan(
            store.ids, digests, lengths, dim=store.dim, row_bytes=1, shard_records=cut or None, failures=known
        )
    except StoreError as error:
        return [f"The manifest and the lists of ids, digests and lengths contradict each other. {error.what}"]
    length, failures = outcome(plan, receipts)
    wrong = []
    if not np.array_equal(plan.start, store.starts) or not np.array_equal(length, store.lengths):
        wrong.append("The records' places are not those of the plan.")
    if failures != manifest["failures"]:
        wrong.append("The manifest's failure list is not that of the receipts.")
    for receipt in receipts:
        if list(receipt.ids) != store.ids_at(plan.shard(receipt.shard).tolist()):
            wrong.append(f"{receipt_name(receipt.shard)} lists other ids than the plan.")
    return wrong


def _check_records(
    store: Store,
    receipts: list[Receipt | None],
    wrong: dict[int, str],
    sample: float | None,
    seconds: float | None,
    seed: int | None,
    tick: Tick,
    damaged: list[Damage],
) -> int:
    """Compare records with the checksums in their receipts; explains damaged shards record by record where it can."""
    rng = np.random.default_rng(seed)
    until = math.inf if seconds is None or sample is None else time.monotonic() + seconds
    sharing = _sharing(store)
    checked = 0
    for k in rng.permutation(len(receipts)).tolist() if sample is not None else range(len(receipts)):
        receipt = receipts[k]
        if receipt is None:
            continue
        starts = receipt.start + np.cumsum((0, *receipt.tokens[:-1]))
        stored = [i for i, crc in enumerate(receipt.crc32c) if crc is not None]
        if sample is not None and stored:
            stored = sorted(rng.choice(stored, max(1, math.ceil(sample * len(stored))), replace=False).tolist())
        bad: list[Id] = []
        reason = wrong.get(k)
        try:
            store.map_shard(k)
        except StoreError as error:  # the shard as a whole can't be read
            wrong.setdefault(k, error.what)
            continue
        for i in stored:
            try:
                values = store.stored(int(starts[i]), receipt.tokens[i])
                sound = crc32c(values) == receipt.crc32c[i]
            except StoreError as error:
                sound, reason = False, reason or error.what
            checked += 1
            if not sound:
                bad += sharing(receipt.ids[i], int(starts[i]))
            if sample is not None:
                tick(receipt.tokens[i] * store.dim * stored_dtype(store.dtype).itemsize)
                if time.monotonic() > until:
                    break
        if bad:
            wrong.pop(k, None)
            damaged.append(Damage(k, tuple(bad), reason or "Records differ from their checksums."))
        elif reason and sample is None:
            wrong.pop(k)
            damaged.append(Damage(k, (), f"{reason} All its records are still sound."))
        if time.monotonic() > until:
            break
    return checked


def _sharing(store: Store) -> Callable[[Id, int], list[Id]]:
    """All ids that have the record at a row, whose first id is known; just that one where the index is damaged."""
    try:
        ids, starts = store.ids, np.where(store.lengths > 0, store.starts, -1)
    except StoreError:
        return lambda name, start: [name]
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]

    def sharing(name: Id, start: int) -> list[Id]:
        first, last = np.searchsorted(ordered, start, "left"), np.searchsorted(ordered, start, "right")
        same = np.sort(order[first:last])
        found: list[Id] = [ids[i] for i in same] if isinstance(ids, list) else ids[same].tolist()
        return found or [name]

    return sharing


def _ids_of_shard(store: Store | None, k: int) -> tuple[Id, ...]:
    """Every id whose record lies in shard k; empty where the store can't be opened."""
    if store is None:
        return ()
    rows = store.manifest["layout"]["shard_rows"]
    try:
        return tuple(store.ids_at(np.flatnonzero((store.starts // rows == k) & (store.lengths > 0)).tolist()))
    except StoreError:
        return ()
