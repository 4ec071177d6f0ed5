"""A fusion trained on cached pairs without answers, for heads to start from.

    result = pretrain(PretrainConfig(data="easy-vqa", text="minilm", image="mobilenetv2", method="ume"))
    fuse(FuseConfig(data="easy-vqa", method="ume", init=str(result.path)))

What is learned says `objectives.py`. A tenth of the images (`holdout`), with all their questions, is not trained on:
its figures tell whether more epochs help. No answer is read.

    RUN/pretrained.safetensors   weights
    RUN/run.json                 what was asked, fingerprints of every store, versions, last figures
    RUN/history.csv              per epoch: both losses and accuracies, trained on and held out
"""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from umecache.data.dataset import Dataset, Split, open_dataset
from umecache.errors import UsageError
from umecache.extraction.devices import autocast
from umecache.fusion.base import Features
from umecache.fusion.naming import modality_of
from umecache.fusion.registry import METHODS
from umecache.home import runs_home
from umecache.reporting import Reporter, Silent
from umecache.sharing.urls import public_facts
from umecache.training.batches import FeatureReader, batches
from umecache.training.checkpoint import Keeper
from umecache.training.config import PretrainConfig
from umecache.training.folders import NewFolder, stamp
from umecache.training.head import Head, HeadSpec
from umecache.training.initial import WEIGHTS
from umecache.training.job import place, run_folder, say_run, settle_order, unlabelled_facts
from umecache.training.model import FusionClassifier, modalities_of, share_arguments
from umecache.training.objectives import FIGURES, Pretraining
from umecache.training.order import epoch_order
from umecache.training.outcome import file_name
from umecache.training.randomness import RandomState
from umecache.training.resolve import Source, find_sources
from umecache.training.runs import versions, write_json
from umecache.training.targets import Index, hold_out

COLUMNS = ("epoch", "loss", "lr", *FIGURES, *(f"held_out_{name}" for name in FIGURES))


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """A finished run: its folder, and the document that `pretrain --json` prints."""

    path: Path
    document: dict[str, Any]


class PretrainHead(Head):
    """A head whose model has objectives in place of answers: the target of a question is its image.

    Attributes:
        curves: one line of `history.csv` per finished epoch.
    """

    model: Pretraining
    config: PretrainConfig

    def __init__(self, spec: HeadSpec, config: PretrainConfig, *, exchanged: tuple[str, ...], **shared: Any) -> None:
        self._exchanged = exchanged
        self._parts: list[Tensor] = []
        self.curves: list[dict[str, float]] = []
        super().__init__(spec, config, classes=1, **shared)

    def _build(self, dims: Mapping[str, int], classes: int) -> FusionClassifier:
        plain = super()._build(dims, classes)  # drawn as a head's own would be
        return Pretraining(
            plain.fusion,
            dims if plain.mix is None else plain.mix.dims,
            exchanged=self._exchanged,
            share=self.config.mask_share,
            objectives=self.config.objectives,
            mix=plain.mix,
        )

    def _loss(self, features: Features, target: Tensor) -> Tensor:
        with autocast(self.device, self.config.precision):
            loss, figures = self.model.objectives(features, target)
        self._parts.append(figures)
        return loss

    def end_epoch(self) -> None:
        """Close the epoch's account; held-out figures may be told afterwards."""
        super().end_epoch()
        last = self.history[-1]
        figures = _means(self._parts)
        self._parts.clear()
        self.curves.append({"epoch": last.epoch, "loss": last.loss, "lr": last.lr, **figures})

    def look(self, reader: FeatureReader, images: Index, held: Index) -> None:
        """The figures of held-out questions; drawn anew from one seed each time, so that epochs compare."""
        self.model.eval()
        parts = []
        with RandomState(self.config.order_seed, self.device).active(), torch.inference_mode():
            for batch in batches(reader, held, batch_size=self.config.batch_size):
                image_B = torch.from_numpy(images[batch.index]).to(self.device)
                with autocast(self.device, self.config.precision):
                    parts.append(self.model.objectives(batch.features, image_B)[1])
        self.curves[-1] |= {f"held_out_{name}": value for name, value in _means(parts).items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As `Head.state`, with the curves."""
        tensors, facts = super().state()
        tensors |= {f"parts/{number}": figures for number, figures in enumerate(self._parts)}
        return tensors, {**facts, "curves": self.curves}

    def load_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load_state(tensors, facts)
        count = sum(name.startswith("parts/") for name in tensors)
        self._parts = [tensors[f"parts/{number}"].to(self.device) for number in range(count)]
        self.curves = [dict(line) for line in facts["curves"]]


@dataclass(frozen=True)
class Pairs:
    """The questions of a split and their images, without answers.

    Attributes:
        index, held: positions trained on and held out, divided by image.
        images: the image of every question.
    """

    dataset: Dataset
    train: Split
    index: Index
    held: Index
    images: Index

    @classmethod
    def load(cls, config: PretrainConfig) -> Pairs:
        """Read the split that is pre-trained on."""
        dataset = open_dataset(config.data)
        train = dataset.split(config.train_split, limit=config.limit)
        images = np.array([question.image_id for question in train.questions], np.int64)
        return cls(dataset, train, *hold_out(train, config.holdout, config.order_seed), images)


def pretrain(config: PretrainConfig, reporter: Reporter | None = None) -> PretrainResult:
    """Train one method's fusion without answers, and write its run folder.

    Raises:
        UmecacheError: data, stores or options that don't fit; a method that looks at one modality only; a loss that is
            not finite; a run folder that is taken.
    """
    started = time.perf_counter()
    reporter = reporter or Silent()
    arguments = share_arguments((config.method,), config.method_args)[config.method]
    with place(config) as where:
        if where.processes > 1:
            raise UsageError("Pre-training takes one device.", next="--devices 0")
        pairs = Pairs.load(config)
        sources = find_sources(
            pairs.dataset,
            (pairs.train,),
            text=config.text,
            image=config.image,
            features=config.features,
            facts=config.facts,
            limit=config.limit,
            needed=modalities_of((config.method,)),
            reporter=reporter,
        )
        exchanged = exchanged_of(config.method, sources)
        config = settle_order(config, pairs.train, [sources], where)
        default = runs_home() / pairs.dataset.name / f"{file_name(config.method)}-pretrained-{stamp()}"
        job = unlabelled_facts(config, [sources], where)
        with run_folder(config, default, job, where) as (folder, checkpoints, _):
            say_run(folder, config, reporter)
            per_epoch = -(-len(pairs.index) // config.batch_size)
            head = PretrainHead(
                HeadSpec(method=config.method, seed=config.seeds[0], lr=config.lr, method_args=arguments),
                config,
                exchanged=exchanged,
                dims={source.name: source.dim for source in sources},
                steps=per_epoch * config.epochs,
                device=where.device,
            )
            train_without_answers(
                head, pairs, _reader(config, pairs, sources, where.device), checkpoints.of("pretrain"), reporter
            )
            document = _write(folder, head, pairs, sources)
    document["seconds_total"] = round(time.perf_counter() - started, 2)
    return PretrainResult(folder.path, document)


def train_without_answers(
    head: PretrainHead, pairs: Pairs, reader: FeatureReader, keeper: Keeper, reporter: Reporter
) -> None:
    """All epochs, from the checkpoint on if there is one.

    Raises:
        JobFailed: a loss that is not finite.
    """
    config = head.config
    by_image = pairs.images if config.order == "window" else None
    per_epoch = -(-len(pairs.index) // config.batch_size)
    first, done = keeper.restore([head])
    with reporter.task("pre-training", per_epoch * config.epochs, "batches") as task:
        task.advance(per_epoch * first + -(-done // config.batch_size))
        for epoch in range(first, config.epochs):
            order = epoch_order(
                pairs.index, order_seed=config.order_seed, epoch=epoch, images=by_image, window=config.window
            )
            for batch in batches(reader, order[done:], batch_size=config.batch_size):
                head.step(batch.features, torch.from_numpy(pairs.images[batch.index]).to(head.device))
                done += len(batch.index)
                task.advance(1, epoch=epoch + 1)
                if keeper.due():
                    keeper.save([head], epoch, done)
            done = 0
            head.end_epoch()
            if head.failure is None:
                head.look(reader, pairs.images, pairs.held)
                reporter.say(f"epoch {epoch + 1}: {in_words(head.curves[-1])}")
            if head.failure is not None:
                raise head.failure
    head.close()
    if head.failure is not None:
        raise head.failure
    keeper.finish([head], config.epochs)


def exchanged_of(method: str, sources: tuple[Source, ...]) -> tuple[str, ...]:
    """The modalities that come from elsewhere in a wrong pair: those kept by image, or the last where that is all.

    Raises:
        UsageError: there is nothing to pair.
    """
    entry = METHODS.get(method)
    names = list(dict.fromkeys(modality_of(source.name) for source in sources))
    if (entry is not None and entry.control) or len(names) < 2:
        raise UsageError(
            f"Pre-training {method!r} needs two modalities.",
            why=f"It looks at: {', '.join(names)}.",
            next="umecache pretrain --method ume",
        )
    by_image = {modality_of(source.name) for source in sources if source.by_image}
    return tuple(name for name in names if name in by_image) if len(by_image) in range(1, len(names)) else (names[-1],)


def in_words(line: Mapping[str, float]) -> str:
    """One epoch's figures."""
    told = [f"loss {line['loss']:.3f}"]
    for name, what in (("match", "pairs told apart"), ("mask", "hidden tokens found")):
        if not np.isnan(line[f"held_out_{name}_accuracy"]):
            told.append(f"{what} {line[f'held_out_{name}_accuracy']:.1f} %")
    return ", ".join(told) + " (held out)"


def _reader(config: PretrainConfig, pairs: Pairs, sources: tuple[Source, ...], device: torch.device) -> FeatureReader:
    stores = {source.name: (source.stores[pairs.train.name], source.ids(pairs.train)) for source in sources}
    window = 2 * config.window if config.order == "window" else 0
    return FeatureReader(stores, device=device, residency=config.residency, window=window)


def _write(folder: NewFolder, head: PretrainHead, pairs: Pairs, sources: tuple[Source, ...]) -> dict[str, Any]:
    """The files of the run, and its document."""
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in head.model.state_dict().items()}
    save_file(weights, folder.building / WEIGHTS)
    with (folder.building / "history.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for line in head.curves:
            table.writerow({name: f"{value:.6g}" for name, value in line.items() if not np.isnan(value)})
    last = {name: None if np.isnan(value) else round(value, 4) for name, value in head.curves[-1].items()}
    config = head.config
    facts: dict[str, Any] = {
        "format": 1,
        "pretrained": True,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "device": str(head.device),
        "asked": public_facts(dataclasses.asdict(config)),
        "data": {
            "name": pairs.dataset.name,
            "folder": str(pairs.dataset.folder),
            "train_split": pairs.train.name,
        },
        "questions": {"train": len(pairs.index), "held_out": len(pairs.held)},
        "model": {
            "method": head.spec.method,
            "method_args": dict(head.spec.method_args),
            "dims": {source.name: source.dim for source in sources},
            "encoders": {source.name: source.model for source in sources},
            "width": config.width,
            "dropout": config.dropout,
        },
        "exchanged": list(head.model.exchanged),
        "features": [source.facts() for source in sources],
        "seed": head.spec.seed,
        "lr": head.spec.lr,
        "parameters": head.parameters,
        "seconds": round(head.seconds, 2),
        "last": last,
    }
    write_json(folder.building / "run.json", facts)
    shown = ("questions", "exchanged", "seed", "lr", "parameters", "seconds", "last")
    return {"run": str(folder.path), "method": head.spec.method, **{name: facts[name] for name in shown}}


def _means(parts: list[Tensor]) -> dict[str, float]:
    """Of all batches, by name; NaN for an objective that was not asked for."""
    mean = torch.stack(parts).mean(0).tolist() if parts else [float("nan")] * len(FIGURES)
    return dict(zip(FIGURES, mean, strict=True))
