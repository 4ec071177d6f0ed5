"""Open the damaged shards of a sealed store again, and only those.

    found = verify(path)
    writer = reopen(path, found.shards)       # the store is unfinished now and lacks these shards
    for shard in writer.claim(): ...          # as in writer.py
    writer.seal()                             # writes every metadata file anew

Whoever holds the encoder and the inputs goes on with the writer (`umecache.extraction.repair`), or runs the command
that made the store: it finds an unfinished store and does what is missing. All arguments come from the store itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umecache.stores.dtypes import row_bytes
from umecache.stores.errors import StoreDamaged, StoreError
from umecache.stores.files import inside, read_small, walk
from umecache.stores.fingerprint import fingerprint
from umecache.stores.manifest import MANIFEST, given
from umecache.stores.plan import Plan, make_plan
from umecache.stores.reader import Store, progress
from umecache.stores.receipts import read_receipt, receipt_name
from umecache.stores.verify import verify
from umecache.stores.writer import FILES, Writer, open_writer


@dataclass(frozen=True, slots=True)
class Repairable:
    """A damaged store that still knows what belongs where.

    Attributes:
        store: opened leniently; only its lists and facts are to be used.
        shards: to be written again.
        arguments: of `open_writer`.
        plan: where every record lies.
    """

    store: Store
    shards: Sequence[int]
    arguments: dict[str, Any]
    plan: Plan


def examine(path: str | Path, shards: Sequence[int] | None = None) -> Repairable:
    """What has to be written again, and whether the store can still tell what belongs there. Changes nothing.

    Args:
        shards: None: those that a full `verify` finds damaged; of a store that was reopened before, those still
            missing.

    Raises:
        StoreIncomplete: it was never finished.
        StoreDamaged: the list of inputs is damaged too.
    """
    root = Path(path)
    begun = progress(root) is not None and (root / MANIFEST).is_file()  # reopened, and stopped before it was sealed
    if shards is None and not begun:
        shards = verify(root).shards
    try:
        store = Store(root, lenient=True)
        arguments = writer_arguments(store)
        plan = _plan(arguments)
        if shards is None:
            shards = [k for k in range(plan.shards) if not (root / receipt_name(k)).is_file()]
        _check(store, plan, shards)
    except StoreError as error:
        raise StoreDamaged(
            f"{root} can't tell any more what belongs where. {error.what}",
            why="Its manifest or its lists of ids, digests and places are damaged.",
            next=f"rm -r {root}, then run the umecache extract command that made it",
        ) from error
    return Repairable(store, shards, arguments, plan)


def reopen(path: str | Path, shards: Sequence[int] | None = None) -> Writer:
    """A writer over a sealed store that yields just these shards; arguments and errors as `examine`."""
    found = examine(path, shards)
    return open_writer(path, **found.arguments, redo=found.shards)


def writer_arguments(store: Store) -> dict[str, Any]:
    """What `open_writer` was called with, for a store with a manifest: the same records in the same shards."""
    manifest, digests = store.manifest, store.digests
    if digests is None:
        raise StoreDamaged(f"{store.path} lacks the digests of its inputs.")
    lengths = store.lengths.copy()
    known: dict[int, str] = {}
    for failure in manifest["failures"]:
        row = int(store.rows([failure["id"]])[0])
        lengths[row] = failure["tokens"]  # what was planned: its place is there, but unwritten
        if not failure["tokens"]:
            known[row] = failure["reason"]
    return {
        "manifest": given({key: value for key, value in manifest.items() if key != "created"}),
        "ids": store.ids,
        "digests": digests,
        "lengths": lengths,
        "dim": store.dim,
        "format": store.format,
        "dtype": store.dtype,
        "shard_records": [shard["records"] for shard in manifest["layout"]["shards"]] or None,
        "compression": manifest["compression"],
        "failures": known,
        "files": {
            name.removeprefix(f"{FILES}/"): read_small(inside(store.path, name))
            for name in walk(store.path)
            if name.startswith(f"{FILES}/")
        },
    }


def _plan(arguments: dict[str, Any]) -> Plan:
    named = ("dim", "shard_records", "failures")
    size = row_bytes(arguments["dtype"], arguments["dim"])
    lists = (arguments[name] for name in ("ids", "digests", "lengths"))
    return make_plan(*lists, row_bytes=size, **{name: arguments[name] for name in named})


def _check(store: Store, plan: Plan, shards: Sequence[int]) -> None:
    """The lists must be those that the fingerprint and the sound shards were made with."""
    manifest = store.manifest
    if fingerprint(manifest["recipe"], plan.ids, plan.digests) != store.fingerprint:
        raise StoreDamaged("Its fingerprint is not that of its ids, digests and recipe.")
    for k in sorted(set(range(plan.shards)) - set(shards)):
        receipt = read_receipt(store.path, k)
        if list(receipt.tokens) != plan.length[plan.shard(k)].tolist():
            raise StoreDamaged(f"Its lengths are not those of shard {k}.")
