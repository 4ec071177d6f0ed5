"""What stores there are and what each one is: behind `umecache store ls`, `info` and `diff`.

for path in find_stores(stores_home): print(info(path)["model"])
diff(a, b).lines
"""

from __future__ import annotations

import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from umecache.stores.claims import Claims
from umecache.stores.commit import CHECKSUMS, Work
from umecache.stores.errors import StoreDamaged, StoreError
from umecache.stores.files import WORK, size_of, walk
from umecache.stores.fingerprint import diff_facts
from umecache.stores.manifest import COMPUTED, MANIFEST, created, read_manifest
from umecache.stores.reader import Store, open_store, progress
from umecache.stores.receipts import read_receipt

DEPTH = 5
"""Folders below which no store is looked for: stores/DATASET/MODEL-RECIPE8/SPLIT is three."""


def find_stores(root: str | Path) -> Iterator[Path]:
    """Every store below `root` (or `root` itself), finished or not, in the order of their paths."""

    def look(folder: Path, depth: int) -> Iterator[Path]:
        try:
            here = (folder / WORK).is_dir() or ((folder / MANIFEST).is_file() and (folder / CHECKSUMS).is_file())
            below = [] if here or not depth else list(folder.iterdir())
            inner = sorted(entry for entry in below if entry.is_dir() and not entry.name.startswith("."))
        except OSError:  # a folder of somebody else's
            return
        if here:
            yield folder
        for entry in inner:
            yield from look(entry, depth - 1)

    yield from look(Path(root), DEPTH)


def find_complete(roots: Iterable[Path], fingerprint: str, *, format: str | None = None) -> Iterator[Path]:
    """Complete, mapped stores of exactly these features, wherever they lie below `roots` and whoever made them.

    Args:
        format: "zarr" or "hdf5"; None: either.
    """
    for root in roots:
        for path in find_stores(root):
            try:
                facts = read_manifest(path) if (path / CHECKSUMS).is_file() else None
            except StoreError:  # a damaged one is nobody's
                continue
            if facts is None or facts["fingerprint"] != fingerprint or facts["compression"]:
                continue
            if format in (None, facts["format"]):
                yield path


def owner(path: Path) -> str:
    """The user who made a store: their name, or number where this machine doesn't know it."""
    status = path.stat()
    try:
        return pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return str(status.st_uid)


def workers(path: Path) -> list[dict[str, Any]]:
    """Host and process of everybody who may be writing an unfinished store."""
    return Claims(path / WORK / "claims").live()


def info(path: str | Path) -> dict[str, Any]:
    """The manifest's facts with `path`, `complete`, `bytes` on disk and `created`; of an unfinished store, its plan's.

    Raises:
        StoreError: nothing there can be read as a store.
    """
    root = Path(path)
    found = progress(root) if not (root / CHECKSUMS).exists() else None
    if found is not None:
        plan = Work(root).plan() if Work(root).exists() else {"facts": {}, "plan": {}}
        facts, layout = plan.get("facts"), plan.get("plan")
        if not isinstance(facts, dict) or not isinstance(layout, dict):
            raise StoreDamaged(f"{root / WORK / 'plan.json'} is malformed.")
        keys = ("fingerprint", "recipe_hash", "format", "dtype", "compression")
        return {
            "path": str(root),
            "complete": False,
            "owner": owner(root),
            "workers": workers(root),
            "shards_done": found[0],
            "shards": found[1],
            "bytes": _bytes(root),
            "records": layout.get("records"),
            "distinct": layout.get("distinct"),
            "tokens": layout.get("tokens"),
            "dim": layout.get("dim"),
            **{key: plan.get(key) for key in keys},
            **facts,
        }
    if (root / MANIFEST).is_file():
        return {
            "path": str(root),
            "complete": (root / CHECKSUMS).is_file(),
            "owner": owner(root),
            "bytes": _bytes(root),
            "created": created(root),
            **read_manifest(root),
        }
    store = open_store(root)  # a foreign store
    facts = {**store.manifest, "tokens": int(store.lengths.sum()), "foreign": True}
    return {"path": str(root), "complete": True, "owner": owner(root), "bytes": _bytes(root), **facts}


def _bytes(root: Path) -> int:
    if root.is_file():
        return size_of(root) or 0
    return sum(size_of(root / name) or 0 for name in walk(root))


@dataclass(frozen=True, slots=True)
class Difference:
    """How two stores differ."""

    same: bool  # the fingerprints agree: same recipe, same inputs
    lines: tuple[str, ...]  # every difference in words; may be there although `same` (versions, format, values)

    def as_json(self) -> dict[str, Any]:
        """As `store diff --json` prints it."""
        return {"same": self.same, "differences": list(self.lines)}


def diff(a: str | Path, b: str | Path) -> Difference:
    """Name the facts in which two finished stores differ: recipe, inputs, failures, origin, layout, and values.

    Raises:
        StoreError: one of them can't be opened.
    """
    first, second = open_store(a), open_store(b)
    for store in (first, second):
        if not store.fingerprint:
            raise StoreError(f"{store.path} has no manifest, so nothing is known of it.")
    one, two = first.manifest, second.manifest
    lines = diff_facts(one["recipe"], two["recipe"], "recipe.")
    lines += _diff_inputs(first, second)
    told = {"recipe", "failures", "layout", "created", "fingerprint", "recipe_hash", "records", "distinct", "tokens"}
    rest = [key for key in [*one, *two] if key not in told and (key not in COMPUTED or key in ("dtype", "format"))]
    keys = [*dict.fromkeys([*rest, "dim", "compression", "umecache_version"])]
    lines += diff_facts({key: one.get(key) for key in keys}, {key: two.get(key) for key in keys})
    lines += _diff_values(first, second)
    return Difference(first.fingerprint == second.fingerprint, tuple(lines))


def _some(names: list[Any]) -> str:
    text = ", ".join(str(name) for name in names[:3])
    return f"{text}, ..." if len(names) > 3 else text


def _diff_inputs(a: Store, b: Store) -> list[str]:
    lines = []
    here, there = list(a.ids), list(b.ids)
    set_a, set_b = set(here), set(there)
    only_a, only_b = [i for i in here if i not in set_b], [i for i in there if i not in set_a]
    if only_a:
        lines.append(f"inputs: {len(only_a)} ids are only in the first ({_some(only_a)})")
    if only_b:
        lines.append(f"inputs: {len(only_b)} ids are only in the second ({_some(only_b)})")
    common = [i for i in here if i in set_b]
    if not only_a and not only_b and here != there:
        lines.append("inputs: the same ids in another order")
    rows_a, rows_b = a.rows(common), b.rows(common)
    digests_a, digests_b = a.digests, b.digests
    if digests_a is not None and digests_b is not None and common:
        changed = np.flatnonzero((digests_a[rows_a] != digests_b[rows_b]).any(axis=1))
        if changed.size:
            names = [common[i] for i in changed[:3].tolist()]
            more = ", ..." if changed.size > 3 else ""
            lines.append(f"inputs: {changed.size} have other content ({', '.join(map(str, names))}{more})")
    failed_a, failed_b = set(a.failures), set(b.failures)
    if failed_a - failed_b:
        lines.append(
            f"failures: {len(failed_a - failed_b)} only in the first ({_some(sorted(failed_a - failed_b, key=str))})"
        )
    if failed_b - failed_a:
        lines.append(
            f"failures: {len(failed_b - failed_a)} only in the second ({_some(sorted(failed_b - failed_a, key=str))})"
        )
    return lines


def _diff_values(a: Store, b: Store) -> list[str]:
    """Records of equal ids whose stored bytes differ, by their checksums; needs no reading of tokens."""
    if a.dtype != b.dtype or a.dim != b.dim:
        return []
    sums_a, sums_b = _sums(a), _sums(b)
    common = sums_a.keys() & sums_b.keys()
    other = [name for name in common if sums_a[name] != sums_b[name]]
    return [f"values: {len(other)} of {len(common)} records in common hold other bytes"] if other else []


def _sums(store: Store) -> dict[Any, str | None]:
    sums: dict[Any, str | None] = {}
    for k in range(len(store.manifest["layout"]["shards"])):
        receipt = read_receipt(store.path, k)
        sums.update(zip(receipt.ids, receipt.crc32c, strict=True))
    return sums
