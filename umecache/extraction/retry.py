"""`--retry-failed`: what a finished store has on its failure list is read again, and only that is encoded.

    path = retry_store(config, path, view, tuned, split, watch, place)

A sealed store is never changed under its readers. A new one grows beside it (SPLIT.retry): good records are copied as
they are stored, checked against their checksums, and the others encoded; sealed, it takes the old one's place.
Stopped anywhere, either the old store stands there or the new one, and the same command goes on. The outcome has the
fingerprint of a fresh extraction of the mended data; while it lasts, it needs the room of a second store.

Shapes: T tokens of one record, D width.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from umecache.data.dataset import Split
from umecache.encoders.base import Encoder, Json
from umecache.errors import UnreadableInput
from umecache.extraction.config import ExtractConfig
from umecache.extraction.devices import Place
from umecache.extraction.encode import ShardEncoder, ShardSink
from umecache.extraction.inputs import Inputs, content_digest, default_workers, inputs_of
from umecache.extraction.jobs import SHARD_BYTES, store_recipe
from umecache.extraction.sizing import batch_size, usual_size
from umecache.extraction.space import check_space
from umecache.extraction.tuning import store_origin
from umecache.extraction.watch import Watch
from umecache.stores import (
    ShardWriter,
    Store,
    StoreDamaged,
    StoreMismatch,
    StoreMissing,
    Writer,
    diff_facts,
    open_store,
    open_writer,
)
from umecache.stores.commit import is_sealed
from umecache.stores.files import fsync_dir
from umecache.stores.manifest import given
from umecache.stores.receipts import crc32c, read_receipt

NEW, OLD = ".retry", ".before-retry"


def retry_store(
    config: ExtractConfig,
    path: Path,
    view: Encoder,
    tuned: Mapping[str, Json],
    split: Split,
    watch: Watch,
    place: Place,
) -> int:
    """Read the failed inputs of the store at `path` again; returns how many were encoded.

    Raises:
        StoreMissing, StoreIncomplete: there is no finished store.
        StoreMismatch: it holds other inputs, or was made otherwise.
    """
    finish_swap(path)
    if not path.exists():
        raise StoreMissing(
            f"There is no store at {path}.",
            why="--retry-failed goes on from a finished one.",
            next="umecache extract without --retry-failed",
        )
    store = open_store(path)
    _check(store, store_recipe(config, view), split, view)
    label = f"{view.name} {split.name}"
    failed = store.rows(list(store.failures)).tolist()
    inputs, lengths, readable = _inputs_now(store, split, view, failed)
    if not readable:
        watch.say(f"{label}: {len(failed):,} inputs failed before, and none of them can be read now ({path})")
        return 0
    size = batch_size(config, usual_size(config, [view], place.device), path)
    model_args = (store.manifest.get("origin") or {}).get("model_args") or {}
    facts = given({key: value for key, value in store.manifest.items() if key != "created"})
    writer = open_writer(
        path.with_name(path.name + NEW),
        manifest=facts | _origins(facts, store_origin(view, model_args, tuned, size)),
        ids=inputs.ids,
        digests=inputs.digests,
        lengths=lengths,
        dim=view.dim,
        format=store.format,
        dtype=store.dtype,
        shard_records=config.shard_records,
        shard_bytes=SHARD_BYTES,
        compression=store.manifest["compression"],
        failures=inputs.failures,
        files=view.files,
    )
    check_space([writer], ignore=config.ignore_space)
    machine = ShardEncoder(
        [view],
        inputs,
        lengths,
        prepared={},
        device=place.device,
        batch_size=size,
        precision=config.precision,
        dtype=store.dtype,
        workers=config.workers or default_workers(place.device),
    )
    try:
        with watch.progress(writer, f"{label} again", "inputs", machine.shares) as progress:
            machine.encode(_refills(writer, Old(store), set(failed)), progress.told)
    finally:
        machine.close()
    writer.seal()
    finish_swap(path)
    left = len(open_store(path).failures)
    watch.say(f"{label}: {len(failed) - left:,} of {len(failed):,} failed inputs are stored now; {left:,} still fail")
    return progress.mine


def finish_swap(path: Path) -> None:
    """Put the sealed new store, if there is one, in the old one's place; whatever was done of it before."""
    new, old = path.with_name(path.name + NEW), path.with_name(path.name + OLD)
    if is_sealed(new):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        new.replace(path)
        fsync_dir(path.parent)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)


class Old:
    """The store as it was: its good records, with their checksums."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._crc: dict[int, str | None] = {}  # by first row
        for k in range(len(store.manifest["layout"]["shards"])):
            receipt = read_receipt(store.path, k)
            starts = receipt.start + np.concatenate([[0], np.cumsum(receipt.tokens)])[:-1]
            self._crc.update(zip(starts.tolist(), receipt.crc32c, strict=True))

    def copy(self, shard: ShardWriter, position: int) -> None:
        """Store a good record again, as it is.

        Raises:
            StoreDamaged: it is not what was stored.
        """
        start, length = int(self._store.starts[position]), int(self._store.lengths[position])
        stored = self._store.stored(start, length)
        if crc32c(stored) != self._crc.get(start):
            name = self._store.ids_at([position])[0]
            raise StoreDamaged(
                f"The record of id {name!s} in {self._store.path} differs from its checksum.",
                next=f"umecache store repair {self._store.path}",
            )
        shard.write_stored(position, stored)


class Refill:
    """A shard of the new store whose good records are copied as it is opened; the others are left to encode."""

    def __init__(self, shard: ShardWriter, old: Old, failed: Collection[int]) -> None:
        self._shard, self._old = shard, old
        self.records = [position for position in shard.records if position in failed]
        self._good = [position for position in shard.records if position not in failed]

    def write(self, position: int, values_TD: np.ndarray[Any, Any], /) -> None:
        """Store one record, [T, D]."""
        self._shard.write(position, values_TD)

    def fail(self, position: int, reason: str, file_sha256: str | None) -> None:
        """Record that an input can't be read now either."""
        self._shard.fail(position, reason, file_sha256)

    def __enter__(self) -> Refill:
        self._shard.__enter__()
        for position in self._good:
            self._old.copy(self._shard, position)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shard.__exit__(kind, error, trace)


def _refills(writer: Writer, old: Old, failed: Collection[int]) -> Iterator[ShardSink | None]:
    for shard in writer.offers():
        refill = None if shard is None else Refill(shard, old, failed)
        if refill is None or refill.records:
            yield refill
        else:
            with refill:  # nothing to encode: a copy
                pass


def _inputs_now(store: Store, split: Split, view: Encoder, failed: list[int]) -> tuple[Inputs, list[int], list[int]]:
    """The inputs as they are now, their lengths, and which of the failed ones can be read."""
    reading = inputs_of(split, view.modality)
    assert store.digests is not None  # `_check` has looked
    digests, lengths = [row.tobytes().hex() for row in store.digests], store.lengths.tolist()
    failures: dict[int, str] = {}
    readable = []
    for position in failed:
        try:
            item = reading.read(position)
        except UnreadableInput as error:
            failures[position] = str(error)
            continue
        digests[position] = content_digest(item)
        try:
            lengths[position] = view.length(view.prepare(item))
            readable.append(position)
        except UnreadableInput as error:
            if view.fixed_length is None:
                failures[position] = str(error)
            else:
                lengths[position] = view.fixed_length  # as in a fresh extraction, which finds out when it decodes
    return Inputs(reading.ids, tuple(digests), reading.read, failures), lengths, readable


def _check(store: Store, recipe: Mapping[str, Json], split: Split, view: Encoder) -> None:
    ids = list(inputs_of(split, view.modality).ids)
    differing = diff_facts(dict(store.manifest["recipe"]), dict(recipe), "recipe.")
    if differing or store.digests is None or list(store.ids) != ids:
        raise StoreMismatch(
            f"The store {store.path} is not one of this model and these inputs.",
            why="; ".join(differing) or "Its ids are others.",
            next="umecache extract without --retry-failed, into another folder",
        )


def _origins(facts: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and settings of this run, beside those that made the other records."""
    known = [facts.get("origin"), *(facts.get("other_origins") or [])]
    return {} if dict(ours) in known else {"other_origins": [*known[1:], dict(ours)]}
