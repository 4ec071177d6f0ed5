"""Stage one: run each frozen encoder once over each split and write its hidden states to a store.

    umecache extract --model minilm --model mobilenetv2 --data vqa-v2

Stores lie at STORES/DATASET/MODEL-RECIPE8/SPLIT. Cost: 577 tokens x 768 x 2 bytes = 0.9 MB per image for ViT-B/16 at
384 px in float16; a few kilobytes per distinct question.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from umecache.data.dataset import Dataset, Split, open_dataset
from umecache.encoders.base import Encoder, LoadContext, TrainText
from umecache.encoders.registry import load_encoder, resolve
from umecache.errors import DataError
from umecache.extraction import together
from umecache.extraction.config import ExtractConfig, ModelRequest, StoreSummary
from umecache.extraction.devices import Place, here
from umecache.extraction.encode import ShardEncoder
from umecache.extraction.inputs import FileFacts, cores, default_workers, look_at_files
from umecache.extraction.jobs import Pass, plan_split, store_folder, store_recipe
from umecache.extraction.retry import retry_store
from umecache.extraction.shares import Shares
from umecache.extraction.sizing import usual_size
from umecache.extraction.space import check_space
from umecache.extraction.tuning import tune
from umecache.extraction.watch import Watch, watching
from umecache.home import dataset_stores
from umecache.reporting import Reporter, Silent
from umecache.stores import open_store

DEFAULT_SPLITS = ("train", "val")


def extract(config: ExtractConfig, reporter: Reporter | None = None, place: Place | None = None) -> list[StoreSummary]:
    """Run stage one and return one summary per model, split and layer, in the order asked for.

    Raises:
        UmecacheError: bad input, an unknown model, a store of something else at that path, a full disk, ...
    """
    place = place or here(config.device)
    reporter = (reporter or Silent()) if place.is_main else Silent()
    dataset = open_dataset(config.data)
    splits = choose_splits(dataset, config.splits)
    loaded = [dataset.split(name, limit=config.limit, annotations=False) for name in splits]
    summaries = []
    with watching(config, reporter, place) as watch:
        if config.retry_failed:
            return _retry(config, dataset, loaded, watch, place) if place.is_main else []
        # All that processes tell each other is told here: once work has started, any of them may die.
        outcomes = hash_inputs(config, loaded, reporter, place)
        for model in config.models:
            views = load_views(model, encoder_context(model, dataset, config, reporter), place)
            tuned = tune(views[0], config)
            usual = usual_size(config, views, place.device)
            passes = [
                each
                for split in loaded
                for each in plan_split(config, model, views, tuned, dataset, split, outcomes[split.name], usual)
            ]
            check_space([t.writer for each in passes for t in each.targets], ignore=config.ignore_space)
            for each in passes:
                summaries += run_pass(config, each, watch, place)
                if failed := summaries[-1].failed:
                    watch.log(f"{each.label}: {failed:,} inputs were not read; the stores' manifests list them")
    return summaries


def _retry(
    config: ExtractConfig, dataset: Dataset, splits: Sequence[Split], watch: Watch, place: Place
) -> list[StoreSummary]:
    """The same stores, their failed inputs read again; the work of one process."""
    summaries = []
    for model in config.models:
        views = load_views(model, encoder_context(model, dataset, config, watch.reporter), place)
        tuned = tune(views[0], config)
        for split in splits:
            for view in views:
                started = time.monotonic()
                path = store_folder(config, model, dataset, store_recipe(config, view)) / split.name
                encoded = retry_store(config, path, view, tuned, split, watch, place)
                summaries.append(summarize(path, model, view, split.name, time.monotonic() - started, encoded))
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


def hash_inputs(
    config: ExtractConfig, splits: Sequence[Split], reporter: Reporter, place: Place
) -> Mapping[str, Mapping[str, Sequence[FileFacts]]]:
    """Per split and modality, `look_at_files`; the main process alone reads them, and the others take its word."""
    asked = dict.fromkeys(resolve(model.name).modality for model in config.models)
    modalities = [modality for modality in asked if modality != "text"]
    workers = config.workers or cores() + 1

    def look(split: Split) -> dict[str, list[FileFacts]]:
        return {modality: look_at_files(split, modality, reporter, workers=workers) for modality in modalities}

    return {split.name: place.share(lambda split=split: look(split)) if modalities else {} for split in splits}


def load_views(model: ModelRequest, context: LoadContext, place: Place) -> list[Encoder]:
    """The encoder on its device, once per layer wanted; equal ones once."""
    first, *others = ("last",) if model.wanted == ("all",) else model.wanted
    encoder = load_encoder(model.name, replace(model.options, layers=first), context)
    if model.wanted == ("all",):
        others = list(encoder.layer_names()[1:])
    views = [encoder, *(encoder.at(name) for name in others)]
    distinct = {str(view.recipe.get("layers")): view for view in reversed(views)}
    return [view.to(place.device) for view in reversed(distinct.values())]


def run_pass(config: ExtractConfig, work: Pass, watch: Watch, place: Place) -> list[StoreSummary]:
    """Fill and seal the stores of one pass."""
    started = time.monotonic()
    todo = [target for target in work.targets if not target.writer.complete]
    for target in work.targets:
        if target not in todo:
            watch.say(f"{work.label}: complete, nothing to do ({target.writer.path})")
    encoded, shares = 0, Shares()
    if todo:
        encoded, shares = encode_pass(config, replace(work, targets=todo), watch, place)
        for target in todo:
            target.writer.seal()
    seconds = time.monotonic() - started
    return [
        summarize(
            target.writer.path, work.model, target.view, work.split, seconds, encoded if target in todo else 0, shares
        )
        for target in work.targets
    ]


def encode_pass(config: ExtractConfig, work: Pass, watch: Watch, place: Place) -> tuple[int, Shares]:
    """Encode whatever shards are left, with whoever else is at it; returns the records encoded here, and the time."""
    writers = [target.writer for target in work.targets]
    machine = ShardEncoder(
        [target.view for target in work.targets],
        work.inputs,
        work.lengths,
        prepared=work.prepared,
        device=place.device,
        batch_size=work.size,
        precision=config.precision,
        dtype=config.dtype,
        workers=config.workers or default_workers(place.device),
    )
    writer = min(writers, key=lambda each: each.done)
    if writer.done:
        watch.say(f"{work.label}: {writer.done} of {writer.shards} shards were finished before; going on from there")
    started = time.monotonic()
    try:
        with watch.progress(writer, work.label, work.item, machine.shares) as progress:
            machine.encode(together.offers(writers), progress.told)
    finally:
        machine.close()
    seconds = time.monotonic() - started
    where = f" by process {place.index}" if place.processes > 1 else ""
    watch.say(
        f"{work.label}: {progress.mine:,} {work.item} encoded{where} in {seconds:,.0f} s; {machine.shares.words()}"
    )
    if hint := machine.shares.hint():
        watch.say(hint)
    return progress.mine, machine.shares


def summarize(
    path: Path,
    model: ModelRequest,
    view: Encoder,
    split: str,
    seconds: float,
    encoded: int,
    shares: Shares | None = None,
) -> StoreSummary:
    """What one finished store holds, and what it took."""
    store = open_store(path)
    return StoreSummary(
        path=str(path),
        model=model.name,
        layers=str(view.recipe.get("layers", "last")),
        split=split,
        modality=str(store.manifest["modality"]),
        format=store.format,
        records=len(store),
        tokens=int(store.manifest["tokens"]),
        dim=store.dim,
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        failed=len(store.failures),
        seconds=round(seconds, 3),
        recipe=str(store.manifest["recipe_hash"]),
        fingerprint=store.fingerprint,
        encoded=encoded,
        time={part: round(share, 4) for part, share in (shares or Shares()).fractions().items()},
        failures=store.failures,
    )


def encoder_context(model: ModelRequest, dataset: Dataset, config: ExtractConfig, reporter: Reporter) -> LoadContext:
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
