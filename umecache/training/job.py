"""Train and score all heads that share a text and an image store: one read of the features for all of them.

material = Material(questions, sources, config, device)
results = run_heads(material, specs, reporter)       # one Result per spec
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
import torch

from umecache.data.dataset import Split
from umecache.data.scoring import Scores
from umecache.encoders.base import Json
from umecache.extraction.devices import Place, here
from umecache.fusion.naming import modality_of
from umecache.reporting import Reporter
from umecache.sharing.urls import public_facts
from umecache.trackers import NoTracker, Tracker, check_tracker, tracking
from umecache.training.batches import FeatureReader, room_for
from umecache.training.checkpoint import Checkpoints
from umecache.training.config import TrainConfig
from umecache.training.folders import NewFolder, new_folder
from umecache.training.head import Head, HeadSpec
from umecache.training.initial import Initial, load_initial
from umecache.training.loop import predict, train
from umecache.training.questions import Questions
from umecache.training.resolve import Source
from umecache.training.runs import versions
from umecache.training.sources import bytes_needed
from umecache.training.targets import Index

AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)

NOT_DECIDING = frozenset(
    {"out", "overwrite", "threads", "residency", "device", "checkpoint_minutes", "tracker", "update", "ray"}
)
"""Fields of the configuration that a run may be gone on with differently."""


class Reading(TypedDict):
    """Where the train features of a pass were, and how long they were waited for."""

    residency: str | None  # None: nothing was read
    order: str
    bytes_read: int  # those of the eval split too
    seconds_waited: float
    share_waited: float  # of the loop over batches


@dataclass(frozen=True, slots=True)
class Result:
    """A trained head and what it answered on the eval split."""

    head: Head
    answers: Mapping[int, str]  # question id -> answer
    scores: Scores | None  # None where the eval split has no annotations


class Material:
    """What the heads of one pass share: questions, stores, device, and the readers of both splits."""

    def __init__(
        self,
        questions: Questions,
        sources: Sequence[Source],
        config: TrainConfig,
        device: torch.device,
        checkpoints: Checkpoints | None = None,
        tracker: Tracker | None = None,
        read: Reading | None = None,
    ) -> None:
        self.questions, self.sources, self.config, self.device = questions, tuple(sources), config, device
        self.checkpoints, self.tracker = checkpoints or Checkpoints(), tracker or NoTracker()
        self._read = read  # on another node

    @cached_property
    def train_reader(self) -> FeatureReader:
        """Features of the train split, by position."""
        return self._reader(self.questions.train)

    @cached_property
    def eval_reader(self) -> FeatureReader:
        """Features of the eval split, by position."""
        return self._reader(self.questions.evaluation)

    @cached_property
    def initial(self) -> Initial | None:
        """What fusions start from, where a pre-training run is named."""
        return None if self.config.init is None else load_initial(self.config.init)

    @property
    def images(self) -> Index | None:
        """The image of each train question, where they are ordered by windows of images."""
        if self.config.order != "window":
            return None
        return np.array([question.image_id for question in self.questions.train.questions], np.int64)

    def reading(self) -> Reading:
        """Where the train features were, in which order they were asked for, and how long they were waited for."""
        if self._read is not None:
            return self._read
        reader = vars(self).get("train_reader")  # none was needed where all heads were kept
        return {
            "residency": reader.residency if reader else None,
            "order": self.config.order,
            "bytes_read": self.bytes_read,
            "seconds_waited": round(reader.waited, 3) if reader else 0.0,
            "share_waited": round(reader.waited / reader.looped, 4) if reader and reader.looped else 0.0,
        }

    @property
    def bytes_read(self) -> int:
        """Bytes of stored features that were fetched: once where features stay in memory, each time else."""
        if self._read is not None:
            return self._read["bytes_read"]
        readers = (vars(self).get(name) for name in ("train_reader", "eval_reader"))
        return sum(reader.bytes_read for reader in readers if reader is not None)

    def model_of(self, name: str) -> str | None:
        """The encoder behind a modality; None where the run doesn't read it."""
        return next((source.model for source in self.sources if modality_of(source.name) == name), None)

    def missing_inputs(self, split: Split) -> dict[str, Json]:
        """Modality -> questions of the split whose input could not be read; they are answered from what is there."""
        missing: dict[str, Json] = {}
        for source in self.sources:
            store = source.stores[split.name]
            missing[modality_of(source.name)] = int((store.lengths[store.rows(self._ids(source, split))] == 0).sum())
        return missing

    def sizes(self, split: Split) -> dict[str, Json]:
        """`dims` of the modalities, and their mean number of `tokens` where an input was read; nothing for mixed
        layers, whose features are several for one modality.
        """
        if any(modality_of(source.name) != source.name for source in self.sources):
            return {}
        tokens: dict[str, Json] = {}
        for source in self.sources:
            store = source.stores[split.name]
            lengths = store.lengths[store.rows(source.ids(split))]
            tokens[source.name] = round(float(lengths[lengths > 0].mean())) if (lengths > 0).any() else 0
        return {"dims": {source.name: source.dim for source in self.sources}, "tokens": tokens}

    def heads(self, specs: Sequence[HeadSpec], index: Index) -> list[Head]:
        """Fresh heads for training on the questions of `index`."""
        steps = math.ceil(len(index) / (self.config.batch_size * self.config.accumulate)) * self.config.epochs
        dims = {source.name: source.dim for source in self.sources}
        classes = self.questions.targets.classes
        shared: dict[str, Any] = {"dims": dims, "classes": classes, "steps": steps, "device": self.device}
        return [Head(spec, self.config, initial=self.initial, **shared) for spec in specs]

    def _ids(self, source: Source, split: Split) -> Index:
        """The record of each question; with `shuffle_images`, that of another image of the split.

        Images are exchanged as wholes (questions about one image see one other image) in a ring of random order, so
        that none keeps its own.
        """
        ids = source.ids(split)
        if not (self.config.shuffle_images and source.by_image):
            return ids
        images, place = np.unique(ids, return_inverse=True)
        ring = np.random.default_rng(self.config.order_seed).permutation(len(images))
        other = np.empty_like(images)
        other[ring] = images[np.roll(ring, 1)]
        return np.asarray(other[place], np.int64)

    def _reader(self, split: Split) -> FeatureReader:
        stores = {source.name: (source.stores[split.name], self._ids(source, split)) for source in self.sources}
        # Twice a window: a batch may reach from one into the next.
        window = 2 * self.config.window if self.config.order == "window" else 0
        return FeatureReader(stores, device=self.device, residency=self.config.residency, window=window)


def run_heads(
    material: Material,
    specs: Sequence[HeadSpec],
    reporter: Reporter,
    *,
    name: str = "heads",
    tolerant: bool = False,
) -> list[Result]:
    """Train one head per spec, then answer and score the eval split. Among several processes, the main one gets all
    results and the others their own.

    With `patience`, a part of train is held out and every head stops by itself; else all of train is trained on.

    Args:
        name: of this pass among those of the run, for its checkpoint.
        tolerant: a head whose loss is not finite is left behind (`head.failure` says why) instead of stopping the rest.

    Raises:
        JobFailed: a loss that is not finite, unless `tolerant`.
    """
    config, questions = material.config, material.questions
    if material.checkpoints.processes > len(specs):
        reporter.say(
            f"{material.checkpoints.processes} devices for {len(specs)} heads: each head is trained on one, so "
            f"{material.checkpoints.processes - len(specs)} have nothing to do; more seeds or methods would use them"
        )
    index, held = (questions.trained_on, None) if config.patience is None else questions.held_out
    heads, answers_HQ = one_pass(
        material, specs, index, held, reporter, name=name, label="training", answer=True, tolerant=tolerant
    )
    return [
        Result(head, questions.answers(answers_Q), questions.score(answers_Q))
        for head, answers_Q in zip(heads, answers_HQ, strict=True)
    ]


def one_pass(
    material: Material,
    specs: Sequence[HeadSpec],
    index: Index,
    held: Index | None,
    reporter: Reporter,
    *,
    name: str,
    label: str,
    answer: bool,
    tolerant: bool,
) -> tuple[list[Head], Index]:
    """Trained heads, and what they answer on the eval split [H, Q] (nothing, unless asked).

    Among several processes, each trains every n-th head; heads share nothing but the batches, so the result is that of
    one process.
    """
    kept, config, questions = material.checkpoints, material.config, material.questions

    def told(head: Head, epoch: int) -> None:
        figures = head.history[epoch].figures().items()
        material.tracker.log({f"{name}/{head.spec.label}/{key}": value for key, value in figures}, step=epoch + 1)

    heads = material.heads(specs[kept.process :: kept.processes], index)
    keeper = kept.of(name)
    if keeper.finished:
        keeper.restore(heads)  # and no feature is read
    elif heads:
        say_where(material, reporter)
        train(
            heads,
            material.train_reader,
            questions.targets,
            index,
            config=config,
            held=held,
            reporter=reporter,
            label=label,
            images=material.images,
            tolerant=tolerant,
            keeper=keeper,
            told=told,
        )
    every = np.arange(len(questions.evaluation.questions) if answer else 0)
    answers_HQ = keeper.answers()
    if answers_HQ is None:
        answers_HQ = np.empty((len(heads), len(every)), np.int64)
        if answer and heads:
            answers_HQ = predict(heads, material.eval_reader, every, batch_size=config.batch_size)
        for head in heads:
            head.facts = head.model.facts()
        keeper.finish(heads, config.epochs, answers_HQ)
    if kept.processes == 1 or (answer and kept.process):  # only the main process writes the run
        return heads, answers_HQ
    heads, answers_HQ = material.heads(specs, index), np.empty((len(specs), len(every)), np.int64)
    for process in range(kept.processes):
        other = kept.wait(name, process)
        theirs = heads[process :: kept.processes]
        other.restore(theirs)
        for head in theirs if process != kept.process else ():
            for epoch in range(len(head.history)):
                told(head, epoch)
        theirs_HQ = other.answers()
        assert theirs_HQ is not None  # it is finished
        answers_HQ[process :: kept.processes] = theirs_HQ
    return heads, answers_HQ


def say_where(material: Material, reporter: Reporter) -> None:
    """One line: where the features stay between epochs, and why."""
    reader = material.train_reader
    size = f"{reader.bytes_needed / 1e9:.2f} GB"
    if reader.residency == "device":
        where = f"kept on {material.device}"
    elif reader.residency == "memory":
        where = "kept in memory" + (" (pinned)" if material.device.type == "cuda" else "")
    else:
        where = "read from the store in every epoch"
        where += ", each image once" if material.config.order == "window" else ""
    reporter.say(f"features: {size}, {where} (--residency); order: {material.config.order} (--order)")


def job_facts(
    config: TrainConfig, questions: Questions, cells: Sequence[Sequence[Source]], where: Place
) -> dict[str, Any]:
    """What decides the numbers of a run: an unfinished one is gone on with only where all of it is the same."""
    facts = unlabelled_facts(config, cells, where)
    return {**facts, "targets": questions.targets_sha256, "processes": where.processes}


def unlabelled_facts(config: TrainConfig, cells: Sequence[Sequence[Source]], where: Place) -> dict[str, Any]:
    """The same of a run without answers."""
    asked = {key: value for key, value in dataclasses.asdict(config).items() if key not in NOT_DECIDING}
    return {
        "asked": public_facts(asked),
        "init": None if config.init is None else load_initial(config.init).digest,
        "stores": [[source.facts()["stores"] for source in cell] for cell in cells],
        "versions": versions(),
        "device": where.device.type,
    }


def settle_order(config: AnyConfig, train: Split, cells: Sequence[Sequence[Source]], where: Place) -> AnyConfig:
    """The configuration with the order decided: a full shuffle where the features of every pass stay in memory, else by
    windows of images. It decides the numbers of a run, so it is written down, and all processes take the main one's.
    """
    if config.order != "auto":
        return config

    def choose() -> Literal["full", "window"]:
        for cell in cells:
            size = sum(bytes_needed(source.stores[train.name], source.ids(train)) for source in cell)
            kept = room_for(size, where.device) if config.residency == "auto" else config.residency
            if kept == "store":
                return "window"
        return "full"

    return dataclasses.replace(config, order=where.share(choose))


@contextlib.contextmanager
def run_folder(
    config: TrainConfig,
    default: Path,
    job: Mapping[str, Any],
    where: Place,
    *,
    update: bool = False,
    passes: float = 1,
) -> Iterator[tuple[NewFolder, Checkpoints, Tracker]]:
    """The folder of a run, made by the main process, the checkpoints that all of its processes share there, and the
    tracker that the main one tells. Where there are several passes, each that is over is kept;
    math.inf: all go through checkpoints, whether they were asked for or not.
    """
    check_tracker(config.tracker)
    with contextlib.ExitStack() as stack:
        folder: NewFolder = where.share(
            lambda: stack.enter_context(
                new_folder(config.out, default, overwrite=config.overwrite, update=update, job=job)
            )
        )
        seconds = 60 * config.checkpoint_minutes or math.inf
        needed = where.processes > 1 or passes == math.inf
        kept = folder.checkpoints if config.checkpoint_minutes or needed else None
        checkpoints = Checkpoints(kept, seconds, where.index, where.processes, always=passes > 1)
        stack.enter_context(checkpoints.alive())
        name = config.tracker if where.is_main else None
        asked = dict(job["asked"])
        tracker = stack.enter_context(tracking(name, run=folder.path.name, folder=folder.path.parent, facts=asked))
        yield folder, checkpoints, tracker


def say_run(folder: NewFolder, config: TrainConfig, reporter: Reporter) -> None:
    """One line, where the run's name was not the user's own: how to go on with it when it is stopped."""
    if config.out is None and config.checkpoint_minutes:
        reporter.say(f"run: {folder.path} (if it is stopped: the same command with --out {folder.path} goes on)")


@contextlib.contextmanager
def place(config: TrainConfig) -> Iterator[Place]:
    """Where this process stands; inside, torch uses `config.threads` threads."""
    found = here(config.device)
    before = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        yield found
    finally:
        torch.set_num_threads(before)
        found.leave()
