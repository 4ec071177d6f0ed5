"""Stage one: run each frozen encoder once over each split and write its hidden states to a store.

    umecache extract --model minilm --model mobilenetv2 --data vqa-v2

Stores lie at STORES/DATASET/MODEL-RECIPE8/SPLIT. Cost: 577 tokens x 768 x 2 bytes = 0.9 MB per image for ViT-B/16 at
384 px in float16; a few kilobytes per distinct question.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from umecache.data.dataset import Dataset, Split, open_dataset
from umecache.encoders.base import Encoder, Json, LoadContext, Prepared, TrainText
from umecache.encoders.registry import load_encoder
from umecache.errors import DataError
from umecache.extraction.config import ExtractConfig, ModelRequest, StoreSummary
from umecache.extraction.devices import Place, here
from umecache.extraction.encode import ShardEncoder
from umecache.extraction.inputs import Inputs, cores, default_workers, digest_images, image_inputs, question_inputs
from umecache.extraction.tuning import batch_size, store_origin, tune
from umecache.home import dataset_stores
from umecache.reporting import Reporter, Silent
from umecache.stores import Writer, open_store, open_writer, recipe8

DEFAULT_SPLITS = ("train", "val")
SHARD_BYTES = 64 << 20  # what a process that dies may lose: about half a minute of a large encoder on one GPU
TOKENIZE = 4096  # texts that are tokenized at a time


def extract(config: ExtractConfig, reporter: Reporter | None = None, place: Place | None = None) -> list[StoreSummary]:
    """Run stage one and return one summary per model and split, in the order asked for.

    Raises:
        UmecacheError: bad input, an unknown model, a store of something else at that path, a full disk, ...
    """
    place = place or here(config.device)
    reporter = (reporter or Silent()) if place.is_main else Silent()
    dataset = open_dataset(config.data)
    splits = choose_splits(dataset, config.splits)
    loaded = {name: dataset.split(name, limit=config.limit, annotations=False) for name in splits}
    summaries = []
    for model in config.models:
        encoder = load_encoder(model.name, model.options, _context(model, dataset, config, reporter)).to(place.device)
        tuned = tune(encoder, config)
        for split in loaded.values():
            summaries.append(_extract_split(config, model, encoder, tuned, dataset, split, reporter, place))
    return summaries


def choose_splits(dataset: Dataset, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The splits asked for; by default those of train and val that the data has."""
    if asked is not None:
        return tuple(asked)
    found = tuple(name for name in DEFAULT_SPLITS if name in dataset.splits)
    if not found:
        raise DataError(
            f"{dataset.folder} has no split called train or val.",
            why=f"It has: {', '.join(dataset.splits) or 'none'}.",
            next=f"umecache extract --split {next(iter(dataset.splits), 'NAME')} ...",
        )
    return found


def store_folder(config: ExtractConfig, model: ModelRequest, dataset: Dataset, recipe: dict[str, Json]) -> Path:
    """The folder of one model's stores, one per split."""
    if config.store is not None:
        return config.store
    short = re.sub(r"[^\w.-]+", "--", Path(model.name).name if Path(model.name).is_dir() else model.name).strip("-")
    return dataset_stores(dataset.name, config.limit) / f"{short}-{recipe8(recipe)}"


def _context(model: ModelRequest, dataset: Dataset, config: ExtractConfig, reporter: Reporter) -> LoadContext:
    """What only the encoder that stage one trains itself asks for, read only then."""

    def train_text() -> TrainText:
        train = dataset.split("train", limit=config.limit)
        if train.annotations is None:
            raise DataError(
                f"{dataset.folder}: the train split has no answers.", why=f"{model.name} is trained on them."
            )
        answers = [train.annotations[question.id].answer for question in train.questions]
        return TrainText(questions=[question.text for question in train.questions], answers=answers)

    return LoadContext(
        cache_dir=dataset_stores(dataset.name, config.limit) / "encoders", train_text=train_text, reporter=reporter
    )


def _extract_split(
    config: ExtractConfig,
    model: ModelRequest,
    encoder: Encoder,
    tuned: Mapping[str, Json],
    dataset: Dataset,
    split: Split,
    reporter: Reporter,
    place: Place,
) -> StoreSummary:
    started = time.monotonic()
    inputs = _inputs(split, encoder, reporter, place, config.workers or cores() + 1)
    prepared, lengths = plan_lengths(encoder, inputs)
    recipe = {**encoder.recipe, "modality": encoder.modality, "dtype": config.dtype, "precision": config.precision}
    folder = store_folder(config, model, dataset, recipe)
    size = batch_size(config, encoder, place.device, folder / split.name)
    writer = open_writer(
        folder / split.name,
        manifest={
            "model": model.name,
            "modality": encoder.modality,
            "recipe": recipe,
            "origin": store_origin(encoder, model.options.model_args, tuned, size),
            "dataset": {"name": dataset.name, "split": split.name, "limit": config.limit},
            "grid": _grid(encoder),
        },
        ids=inputs.ids,
        digests=inputs.digests,
        lengths=lengths,
        dim=encoder.dim,
        format=config.format,
        dtype=config.dtype,
        shard_records=config.shard_records,
        shard_bytes=SHARD_BYTES,
        failures=inputs.failures,
        files=encoder.files,
    )
    label = f"{model.name} {split.name}"
    encoded = 0
    if writer.complete:
        reporter.say(f"{label}: complete, nothing to do ({folder / split.name})")
    else:
        encoded = _encode_shards(config, encoder, inputs, lengths, prepared, writer, size, label, reporter, place)
        writer.seal()
    return _summary(folder / split.name, model, split, config, started, encoded)


def _inputs(split: Split, encoder: Encoder, reporter: Reporter, place: Place, workers: int) -> Inputs:
    if encoder.modality == "text":
        return question_inputs(split)
    # The main process alone hashes the files, and the others take its word.
    return image_inputs(split, place.share(lambda: digest_images(split, reporter, workers=workers)))


def plan_lengths(encoder: Encoder, inputs: Inputs) -> tuple[dict[int, Prepared], list[int]]:
    """Tokens of every record, known before anything is encoded; texts are tokenized here once, equal ones together."""
    if encoder.fixed_length is not None:
        return {}, [0 if p in inputs.failures else encoder.fixed_length for p in range(len(inputs.ids))]
    first: dict[str, int] = {}
    for position, digest in enumerate(inputs.digests):
        first.setdefault(digest, position)
    positions = list(first.values())
    prepared: dict[int, Prepared] = {}
    for start in range(0, len(positions), TOKENIZE):
        chunk = positions[start : start + TOKENIZE]
        items = encoder.prepare_many([inputs.read(position) for position in chunk])
        prepared.update(zip(chunk, items, strict=True))
    lengths = [encoder.length(prepared[first[digest]]) for digest in inputs.digests]
    return prepared, lengths


def _encode_shards(
    config: ExtractConfig,
    encoder: Encoder,
    inputs: Inputs,
    lengths: list[int],
    prepared: dict[int, Prepared],
    writer: Writer,
    size: int,
    label: str,
    reporter: Reporter,
    place: Place,
) -> int:
    machine = ShardEncoder(
        encoder,
        inputs,
        lengths,
        prepared=prepared,
        device=place.device,
        batch_size=size,
        precision=config.precision,
        dtype=config.dtype,
        workers=config.workers or default_workers(place.device),
    )
    done = Counter[str]()
    started = time.monotonic()
    finished, total = writer.done, len(writer.plan.first)
    if finished:
        reporter.say(f"{label}: {finished} of {writer.shards} shards were finished before; going on from there")
    item = "images" if encoder.modality == "image" else "questions"
    try:
        with reporter.task(label, total, item) as task:
            task.advance(total * finished // max(writer.shards, 1))

            def told(count: int) -> None:
                done["records"] += count
                task.advance(count, GB=writer.bytes * done["records"] / max(total, 1) / 1e9)

            machine.encode(writer.offers(), told)
    finally:
        machine.close()
    seconds = time.monotonic() - started
    reporter.say(f"{label}: {done['records']:,} {item} encoded in {seconds:,.0f} s; {machine.shares.words()}")
    if hint := machine.shares.hint():
        reporter.say(hint)
    return done["records"]


def _grid(encoder: Encoder) -> dict[str, Json] | None:
    grid = encoder.grid
    return None if grid is None else {"height": grid.height, "width": grid.width, "prefix": grid.prefix}


def _summary(
    path: Path, model: ModelRequest, split: Split, config: ExtractConfig, started: float, encoded: int
) -> StoreSummary:
    store = open_store(path)
    return StoreSummary(
        path=str(path),
        model=model.name,
        split=split.name,
        modality=str(store.manifest["modality"]),
        format=store.format,
        records=len(store),
        tokens=int(store.manifest["tokens"]),
        dim=store.dim,
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        failed=len(store.failures),
        seconds=round(time.monotonic() - started, 3),
        recipe=str(store.manifest["recipe_hash"]),
        fingerprint=store.fingerprint,
        encoded=encoded,
        failures=store.failures,
    )
