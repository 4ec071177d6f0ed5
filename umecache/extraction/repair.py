"""Extract the damaged shards of a store again, and only those, with the encoder and the inputs its manifest names.

    repaired = repair("stores/vqa-v2/bert-3f9a1c02/val", data="vqa-v2")
    repaired.shards, repaired.records, repaired.same_bytes

Everything is checked before the store is touched: the encoder fact by fact, and the content of every input against the
store's own digests. Killed midway, the same call goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from umecache.data.dataset import Split, open_dataset
from umecache.errors import DataError, UnreadableInput
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.devices import Place, here
from umecache.extraction.encode import ShardEncoder
from umecache.extraction.inputs import Inputs, content_digest, default_workers, inputs_of
from umecache.extraction.reload import declaration, reload_encoder
from umecache.extraction.sizing import usual_size
from umecache.extraction.tuning import tune
from umecache.reporting import Reporter, Silent
from umecache.stores import Store, open_writer
from umecache.stores.commit import CHECKSUMS
from umecache.stores.errors import StoreIncomplete, StoreMismatch
from umecache.stores.repair import Repairable, examine
from umecache.stores.verify import verify

_SHOWN = 3  # inputs named in an error


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done to a store.

    Attributes:
        sound: nothing was wrong, and nothing was done.
        shards: written again; empty where only lists and metadata were damaged.
        records: inputs that were encoded again.
        same_bytes: whether the store is again what its CHECKSUMS listed, byte for byte.
    """

    path: Path
    sound: bool
    shards: tuple[int, ...] = ()
    records: int = 0
    same_bytes: bool = True


def repair(
    path: str | Path,
    *,
    data: str | None = None,
    weights: str | None = None,
    place: Place | None = None,
    reporter: Reporter | None = None,
) -> Repaired:
    """Make a damaged store sound again.

    Args:
        data: the data folder or its name; None: the name in the manifest.
        weights: the encoder's checkpoint; None: where the manifest says it was.

    Raises:
        StoreDamaged: the store can't tell any more what belongs where.
        StoreMismatch: the inputs or the encoder are not those that the store was made from; nothing was changed.
        UmecacheError: no such data, no weights, a full disk.
    """
    reporter, place = reporter or Silent(), place or here("auto")
    try:
        with reporter.task(f"verify {Path(path).name}", None, "bytes") as task:
            verified = verify(path, tick=task.advance)
    except StoreIncomplete:  # reopened before, and stopped; or never finished: examine tells
        found = examine(path)
    else:
        if verified.ok:
            return Repaired(Path(path), sound=True)
        found = examine(path, verified.shards)
    root = found.store.path
    listed = (root / CHECKSUMS).read_bytes() if (root / CHECKSUMS).is_file() else None
    machine = _machine(found, data, weights, place) if len(found.shards) else None
    records = sum(len(found.plan.shard(k)) for k in found.shards)
    try:
        writer = open_writer(root, **found.arguments, redo=found.shards)
        with reporter.task(f"repair {root.name}", records, "records") as task:
            if machine is not None:
                machine.encode(writer.offers(), task.advance)
        writer.seal()
    finally:
        if machine is not None:
            machine.close()
    same = (root / CHECKSUMS).read_bytes() == listed
    return Repaired(root, sound=False, shards=tuple(found.shards), records=records, same_bytes=same)


def _machine(found: Repairable, data: str | None, weights: str | None, place: Place) -> ShardEncoder:
    """The encoder over the store's own inputs, checked."""
    manifest = found.store.manifest
    inputs = _inputs(found, data)
    encoder = reload_encoder(declaration(found.store), weights=weights, store=found.store.path).to(place.device)
    origin = manifest["origin"] if isinstance(manifest["origin"], Mapping) else {}
    # Run as it was run then, so that the bytes come out the same.
    config = ExtractConfig(
        models=(ModelRequest(name=encoder.name),),
        batch_size=origin.get("batch_size"),
        channels_last=origin.get("memory_format") == "channels_last",
        compile=bool(origin.get("compiled")),
    )
    tune(encoder, config)
    return ShardEncoder(
        [encoder],
        inputs,
        found.arguments["lengths"].tolist(),
        prepared={},
        device=place.device,
        batch_size=usual_size(config, [encoder], place.device),
        precision=manifest["recipe"].get("precision", "float32"),
        dtype=found.store.dtype,
        workers=default_workers(place.device),
    )


def _inputs(found: Repairable, data: str | None) -> Inputs:
    """The store's inputs, in its order and with its digests, read from the data; those of damaged shards are compared.

    Raises:
        StoreMismatch: one is another than the store was made from.
    """
    store, plan = found.store, found.plan
    split = _split(store, data)
    source = inputs_of(split, str(store.manifest["modality"]))
    position_of: dict[int | str, int] = {name: position for position, name in enumerate(source.ids)}
    ids = tuple(store.ids_at(range(len(store))))
    digests = tuple(row.tobytes().hex() for row in plan.digests)

    def read(position: int) -> str | bytes:
        if (there := position_of.get(ids[position])) is None:
            raise UnreadableInput("is not in the data")
        return source.read(there)

    wrong = []
    for position in np.concatenate([plan.shard(k) for k in found.shards]).tolist():
        try:
            same = content_digest(read(position)) == digests[position]
            why = "" if same else "has another content"
        except UnreadableInput as error:
            why = str(error)
        if why:
            wrong.append(f"{ids[position]} {why}")
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise StoreMismatch(
            f"{split.name} of {split.folder} is not what {store.path} was made from.",
            why=f"Inputs of damaged shards differ: {'; '.join(wrong[:_SHOWN])}{more}. Nothing was changed.",
            next="--data DIR with the data that the store was made from",
        )
    return Inputs(ids, digests, read, found.arguments["failures"])  # type: ignore[arg-type]  # ids of any kind


def _split(store: Store, data: str | None) -> Split:
    told = store.manifest["dataset"]
    if not isinstance(told, Mapping) or not isinstance(told.get("split"), str):
        raise DataError(f"{store.path} does not say which data it was made from.", next=f"rm -r {store.path}")
    dataset = open_dataset(data or str(told.get("name")))
    return dataset.split(told["split"], limit=told.get("limit"), annotations=False)
