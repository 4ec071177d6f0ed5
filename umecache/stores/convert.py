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
from umecache.stores.files import inside, read_small, walk
from umecache.stores.manifest import given
from umecache.stores.plan import SHARD_BYTES
from umecache.stores.reader import Store, open_store
from umecache.stores.receipts import crc32c, read_receipt
from umecache.stores.shard import ShardWriter
from umecache.stores.writer import FILES, Writer, open_writer


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
    writer = _writer(store, target, format or store.format, dtype or store.dtype, compression)
    for shard in writer.claim():
        with shard:
            _copy(store, writer, shard, kept)
        tick(len(shard.records))
    return {"lossless": kept, **writer.seal()}


def _writer(store: Store, target: str | Path, format: str, dtype: str, compression: str | None) -> Writer:
    """A writer with the source's plan: the same records in the same shards, so a round trip ends where it began."""
    manifest = store.manifest
    lengths = store.lengths.copy()
    known: dict[int, str] = {}
    for failure in manifest["failures"]:
        row = int(store.rows([failure["id"]])[0])
        lengths[row] = failure["tokens"]  # what was planned: its place stays free in the copy too
        if not failure["tokens"]:
            known[row] = failure["reason"]
    digests = store.digests
    if digests is None:
        raise StoreDamaged(f"{store.path} lacks the digests of its inputs.")
    facts = given({key: value for key, value in manifest.items() if key != "created"})
    return open_writer(
        target,
        manifest={**facts, "recipe": {**facts["recipe"], "dtype": dtype}},
        ids=store.ids,
        digests=digests,
        lengths=lengths,
        dim=store.dim,
        format=format,
        dtype=dtype,
        shard_records=[shard["records"] for shard in manifest["layout"]["shards"]] or None,
        shard_bytes=SHARD_BYTES,
        compression=compression,
        failures=known,
        files={
            name.removeprefix(f"{FILES}/"): read_small(inside(store.path, name))
            for name in walk(store.path)
            if name.startswith(f"{FILES}/")
        },
    )


def _copy(store: Store, writer: Writer, shard: ShardWriter, kept: bool) -> None:
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
