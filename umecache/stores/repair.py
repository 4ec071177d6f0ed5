"""Open the damaged shards of a sealed store again, and only those.

    found = verify(path)
    writer = reopen(path, found.shards)       # the store is unfinished now and lacks these shards
    for shard in writer.claim(): ...          # as in writer.py
    writer.seal()                             # writes every metadata file anew

Whoever holds the encoder and the inputs goes on with the writer, or runs the command that made the store: it finds an
unfinished store and does what is missing. All arguments come from the store itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from umecache.stores.dtypes import row_bytes
from umecache.stores.errors import StoreDamaged, StoreError
from umecache.stores.files import inside, read_small, walk
from umecache.stores.fingerprint import fingerprint
from umecache.stores.manifest import given
from umecache.stores.plan import Plan, make_plan
from umecache.stores.reader import Store
from umecache.stores.receipts import read_receipt
from umecache.stores.verify import verify
from umecache.stores.writer import FILES, Writer, open_writer


def reopen(path: str | Path, shards: Sequence[int] | None = None) -> Writer:
    """A writer over a sealed store that yields just these shards.

    Args:
        shards: to be written again; None: those that a full `verify` finds damaged.

    Raises:
        StoreDamaged: the list of inputs is damaged too, so that the store can't tell what belongs where.
    """
    root = Path(path)
    if shards is None:
        shards = verify(root).shards
    try:
        store = Store(root, lenient=True)
        arguments = writer_arguments(store)
        _check(store, arguments, shards)
    except StoreError as error:
        raise StoreDamaged(
            f"{root} can't tell any more what belongs where. {error.what}",
            why="Its manifest or its lists of ids, digests and places are damaged.",
            next=f"rm -r {root}, then run the umecache extract command that made it",
        ) from error
    return open_writer(root, **arguments, redo=shards)


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


def _check(store: Store, arguments: dict[str, Any], shards: Sequence[int]) -> None:
    """The lists must be those that the fingerprint and the sound shards were made with."""
    manifest = store.manifest
    if fingerprint(manifest["recipe"], store.ids, arguments["digests"]) != store.fingerprint:
        raise StoreDamaged("Its fingerprint is not that of its ids, digests and recipe.")
    plan = _plan(arguments)
    for k in sorted(set(range(plan.shards)) - set(shards)):
        receipt = read_receipt(store.path, k)
        if list(receipt.tokens) != plan.length[plan.shard(k)].tolist():
            raise StoreDamaged(f"Its lengths are not those of shard {k}.")
