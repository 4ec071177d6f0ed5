"""What one pass over an encoder will write, settled before the first input is encoded.

    passes = plan_split(config, model, views, tuned, dataset, split, outcomes, usual)
    for each in passes: ...          # one pass per plan: nearly always one for all layers

Tokens of every record are known here: texts are tokenized, equal ones once; images have a fixed number; those of sounds
follow from their headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from umecache.data.dataset import Dataset, Split
from umecache.encoders.base import Encoder, Json, Prepared
from umecache.encoders.hearing import SoundEncoder
from umecache.errors import UnreadableInput
from umecache.extraction.config import ExtractConfig, ModelRequest
from umecache.extraction.inputs import WORDS, FileFacts, Inputs, inputs_of
from umecache.extraction.sizing import batch_size
from umecache.extraction.tuning import store_origin
from umecache.home import dataset_stores, stores_homes
from umecache.stores import Writer, open_writer, recipe8
from umecache.stores.catalog import find_complete
from umecache.stores.fingerprint import digest_array, fingerprint

SHARD_BYTES = 64 << 20  # what a process that dies may lose: about half a minute of a large encoder on one GPU
TOKENIZE = 4096  # texts that are tokenized at a time


@dataclass(frozen=True, slots=True)
class Target:
    """One store to be written: one layer of one split."""

    view: Encoder
    writer: Writer


@dataclass(frozen=True, slots=True)
class Pass:
    """Stores with the same records in the same shards, filled by one pass over the encoder.

    Attributes:
        lengths: tokens of every record.
        prepared: what planning has prepared already (texts), by position.
        size: records of a batch.
    """

    model: ModelRequest
    split: str
    inputs: Inputs
    lengths: Sequence[int]
    prepared: Mapping[int, Prepared]
    size: int
    targets: Sequence[Target]

    @property
    def label(self) -> str:
        """What bars and lines call it."""
        layers = [str(target.view.recipe.get("layers", "last")) for target in self.targets]
        return f"{self.model.name} {self.split}" + (f" layers {','.join(layers)}" if len(layers) > 1 else "")

    @property
    def item(self) -> str:
        """What is counted."""
        return WORDS[self.targets[0].view.modality]


def plan_split(
    config: ExtractConfig,
    model: ModelRequest,
    views: Sequence[Encoder],
    tuned: Mapping[str, Json],
    dataset: Dataset,
    split: Split,
    outcomes: Mapping[str, Sequence[FileFacts]],
    usual: int,
) -> list[Pass]:
    """Open the stores of one split, one per view, and put those together that one pass can fill.

    Args:
        outcomes: `look_at_files` of the split, for encoders of images or sounds.
        usual: records of a batch, in stores that nobody has begun.
    """
    inputs = inputs_of(split, views[0].modality, outcomes.get(views[0].modality))
    prepared, failures = prepare_texts(views[0], inputs)
    if failures:
        inputs = replace(inputs, failures={**inputs.failures, **failures})
    passes: dict[tuple[object, ...], Pass] = {}
    for view in views:
        lengths = plan_lengths(view, inputs, prepared)
        recipe = store_recipe(config, view)
        path = elsewhere(config, recipe, dataset, inputs) or store_folder(config, model, dataset, recipe) / split.name
        writer = open_writer(
            path,
            manifest={
                "model": model.name,
                "modality": view.modality,
                "recipe": recipe,
                "origin": store_origin(view, model.options.model_args, tuned, batch_size(config, usual, path)),
                "dataset": {"name": dataset.name, "split": split.name, "limit": config.limit},
                "grid": _grid(view),
            },
            ids=inputs.ids,
            digests=inputs.digests,
            lengths=lengths,
            dim=view.dim,
            format=config.format,
            dtype=config.dtype,
            shard_records=config.shard_records,
            shard_bytes=SHARD_BYTES,
            failures=inputs.failures,
            files=view.files,
        )
        size = batch_size(config, usual, path)  # of whoever began the store, if several did at once
        # The same cut, the same batches: only then does a pass give each store what it would hold alone.
        key = (writer.plan.bounds.tobytes(), tuple(lengths[:1]), tuple(set(lengths)), view.dim, size)
        if key not in passes:
            passes[key] = Pass(model, split.name, inputs, lengths, prepared, size, [])
        passes[key] = replace(passes[key], targets=[*passes[key].targets, Target(view, writer)])
    return list(passes.values())


def store_recipe(config: ExtractConfig, view: Encoder) -> dict[str, Json]:
    """The facts that decide a store's values."""
    return {**view.recipe, "modality": view.modality, "dtype": config.dtype, "precision": config.precision}


def store_folder(config: ExtractConfig, model: ModelRequest, dataset: Dataset, recipe: dict[str, Json]) -> Path:
    """The folder of one model's stores, one per split."""
    if config.store is not None:
        return config.store
    short = re.sub(r"[^\w.-]+", "--", Path(model.name).name if Path(model.name).is_dir() else model.name).strip("-.")
    return dataset_stores(dataset.name, config.limit) / f"{short}-{recipe8(recipe)}"


def elsewhere(config: ExtractConfig, recipe: dict[str, Json], dataset: Dataset, inputs: Inputs) -> Path | None:
    """A complete store of just these features in any home, the lab's share say, whatever it is called."""
    if config.store is not None:
        return None
    wanted = fingerprint(recipe, inputs.ids, digest_array(inputs.digests))
    roots = [dataset_stores(dataset.name, config.limit, below=below) for below in stores_homes()]
    return next(find_complete(roots, wanted, format=config.format), None)


def prepare_texts(encoder: Encoder, inputs: Inputs) -> tuple[dict[int, Prepared], dict[int, str]]:
    """Distinct texts tokenized, by the position of their first mention; and why others can't be, by position.

    Of sounds only the latter: held ready, they would take far more memory than texts.
    """
    if isinstance(encoder, SoundEncoder):
        return {}, _too_short(encoder, inputs)
    if encoder.fixed_length is not None:
        return {}, {}
    first = _first_mentions(inputs)
    positions = list(first.values())
    prepared: dict[int, Prepared] = {}
    bad: dict[int, str] = {}
    for start in range(0, len(positions), TOKENIZE):
        chunk = positions[start : start + TOKENIZE]
        try:
            items = encoder.prepare_many([inputs.read(position) for position in chunk])
        except UnreadableInput:
            for position in chunk:  # one by one, to find which
                try:
                    prepared[position] = encoder.prepare(inputs.read(position))
                except UnreadableInput as error:
                    bad[position] = str(error)
        else:
            prepared.update(zip(chunk, items, strict=True))
    if not bad:
        return prepared, {}
    failures = {p: bad[first[digest]] for p, digest in enumerate(inputs.digests) if first[digest] in bad}
    return prepared, failures


def plan_lengths(encoder: Encoder, inputs: Inputs, prepared: Mapping[int, Prepared]) -> list[int]:
    """Tokens of every record; 0 where the input is known to be unreadable."""
    if encoder.fixed_length is not None:
        return [0 if p in inputs.failures else encoder.fixed_length for p in range(len(inputs.ids))]
    if isinstance(encoder, SoundEncoder):
        return [0 if p in inputs.failures else _measure(encoder, inputs, p) for p in range(len(inputs.ids))]
    first = _first_mentions(inputs)
    return [
        0 if p in inputs.failures else encoder.length(prepared[first[digest]])
        for p, digest in enumerate(inputs.digests)
    ]


def _too_short(encoder: SoundEncoder, inputs: Inputs) -> dict[int, str]:
    failures: dict[int, str] = {}
    for position in range(len(inputs.ids)):
        if position not in inputs.failures:
            try:
                _measure(encoder, inputs, position)
            except UnreadableInput as error:
                failures[position] = str(error)
    return failures


def _measure(encoder: SoundEncoder, inputs: Inputs, position: int) -> int:
    size = inputs.sizes[position]
    assert size is not None  # what has none is a failure
    return encoder.measure(size)


def _first_mentions(inputs: Inputs) -> dict[str, int]:
    first: dict[str, int] = {}
    for position, digest in enumerate(inputs.digests):
        first.setdefault(digest, position)
    return first


def _grid(encoder: Encoder) -> dict[str, Json] | None:
    grid = encoder.grid
    return None if grid is None else {"height": grid.height, "width": grid.width, "prefix": grid.prefix}
