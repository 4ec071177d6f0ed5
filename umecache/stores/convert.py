"""The same store in another format, dtype or compression.

    convert(source, target, format="hdf5")             # lossless: same fingerprint, and back gives the same bytes
    convert(source, target, dtype="int8")              # new recipe, new fingerprint: values change

Every record is checked against its checksum on the way. Like extraction, a conversion may be killed and run again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from umecache.stores.errors import StoreDamaged, StoreError
from umecache.stores.reader import Store, open_store
from umecache.stores.receipts import crc32c, read_receipt
from umecache.stores.repair import writer_arguments
from umecache.stores.shard import ShardWriter
from umecache.stores.writer import open_writer


def convert(
    source: str | Path,
    target: str | Path,
    *,
    format: str | None = None,
    dtype: str | None = None,
    compression: str | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Write the store `source` anew at `target`.

    Args:
        format, dtype: None: as in the source. With the source's dtype the conversion is lossless.
        compression: None, "zstd" (zarr) or "gzip" (hdf5).
        tick: called with the number of records just written.

    Returns:
        The new store's facts (as `Writer.seal`), and `lossless`.

    Raises:
        StoreError: the source is foreign, or the target holds something else.
        StoreDamaged: a record of the source differs from its checksum.
    """
    store = open_store(source)
    if not store.fingerprint:
        raise StoreError(f"{store.path} has no manifest, so its recipe and inputs are unknown.")
    if Path(target).resolve() == store.path:
        raise StoreError(f"{target} is the source itself.", next="Name another folder.")
    kept = dtype is None or dtype == store.dtype
    arguments = writer_arguments(store)
    facts, kind = arguments["manifest"], dtype or store.dtype
    arguments |= {
        "manifest": {**facts, "recipe": {**facts["recipe"], "dtype": kind}},
        "format": format or store.format,
        "dtype": kind,
        "compression": compression,
    }
    writer = open_writer(target, **arguments)
    for shard in writer.claim():
        with shard:
            _copy(store, shard, kept)
        tick(len(shard.records))
    return {"lossless": kept, **writer.seal()}


def _copy(store: Store, shard: ShardWriter, kept: bool) -> None:
    receipt = read_receipt(store.path, shard.index)
    if len(receipt.ids) != len(shard.records):
        raise StoreDamaged(f"{store.path}: the receipt of shard {shard.index} and the plan disagree.")
    failed = {failure.record: failure for failure in receipt.failures}
    for i, position in enumerate(shard.records):
        name = store.ids_at([position])[0]
        if i in failed:
            shard.fail(position, failed[i].reason, failed[i].sha256)
            continue
        stored = store.stored(int(store.starts[position]), int(store.lengths[position]))
        if crc32c(stored) != receipt.crc32c[i]:
            raise StoreDamaged(
                f"The record of id {name!s} in {store.path} differs from its checksum.",
                next=f"umecache store repair {store.path}",
            )
        if kept:
            shard.write_stored(position, stored)
        else:
            shard.write(position, store[name])
