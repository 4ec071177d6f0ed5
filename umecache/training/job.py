"""Train and score all heads that share a text and an image store: one read of the features for all of them.

material = Material(questions, sources, config, device)
results = run_heads(material, specs, reporter)       # one Result per spec
rates = choose_rates(material, {"ume": {}}, grid, reporter)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from umecache.data.dataset import Split
from umecache.data.scoring import Scores
from umecache.encoders.base import Json
from umecache.errors import JobFailed
from umecache.extraction.devices import parse_devices
from umecache.fusion.layer_mix import modality_of
from umecache.reporting import Reporter
from umecache.training.batches import FeatureReader
from umecache.training.config import TrainConfig
from umecache.training.head import Head, HeadSpec
from umecache.training.loop import predict, train
from umecache.training.questions import Questions
from umecache.training.resolve import Source
from umecache.training.targets import Index


@dataclass(frozen=True, slots=True)
class Result:
    """A trained head and what it answered on the eval split."""

    head: Head
    answers: Mapping[int, str]  # question id -> answer
    scores: Scores | None  # None where the eval split has no annotations


class Material:
    """What the heads of one pass share: questions, stores, device, and the readers of both splits."""

    def __init__(
        self, questions: Questions, sources: Sequence[Source], config: TrainConfig, device: torch.device
    ) -> None:
        self.questions, self.sources, self.config, self.device = questions, tuple(sources), config, device

    @cached_property
    def train_reader(self) -> FeatureReader:
        """Features of the train split, by position."""
        return self._reader(self.questions.train)

    @cached_property
    def eval_reader(self) -> FeatureReader:
        """Features of the eval split, by position."""
        return self._reader(self.questions.evaluation)

    @property
    def bytes_read(self) -> int:
        """Bytes of stored features that were fetched: once where features stay in memory, each time else."""
        return self.train_reader.bytes_read + self.eval_reader.bytes_read

    def model_of(self, name: str) -> str | None:
        """The encoder behind a modality; None where the run doesn't read it."""
        return next((source.model for source in self.sources if modality_of(source.name) == name), None)

    def missing_inputs(self, split: Split) -> dict[str, Json]:
        """Modality -> questions of the split whose input could not be read; they are answered from what is there."""
        missing: dict[str, Json] = {}
        for source in self.sources:
            store = source.stores[split.name]
            missing[modality_of(source.name)] = int((store.lengths[store.rows(source.ids(split))] == 0).sum())
        return missing

    def heads(self, specs: Sequence[HeadSpec], index: Index) -> list[Head]:
        """Fresh heads for training on the questions of `index`."""
        steps = math.ceil(len(index) / self.config.batch_size) * self.config.epochs
        dims = {source.name: source.dim for source in self.sources}
        classes = self.questions.targets.classes
        return [Head(spec, self.config, dims=dims, classes=classes, steps=steps, device=self.device) for spec in specs]

    def _reader(self, split: Split) -> FeatureReader:
        stores = {source.name: (source.stores[split.name], source.ids(split)) for source in self.sources}
        return FeatureReader(stores, device=self.device, residency=self.config.residency)


def run_heads(material: Material, specs: Sequence[HeadSpec], reporter: Reporter) -> list[Result]:
    """Train one head per spec, then answer and score the eval split.

    With `patience`, a part of train is held out and every head stops by itself; else all of train is trained on.
    """
    config, questions = material.config, material.questions
    index, held = (questions.trained_on, None) if config.patience is None else questions.held_out
    heads = material.heads(specs, index)
    say_where(material, reporter)
    train(heads, material.train_reader, questions.targets, index, config=config, held=held, reporter=reporter)
    every = np.arange(len(questions.evaluation.questions))
    answers_HQ = predict(heads, material.eval_reader, every, batch_size=config.batch_size)
    return [
        Result(head, questions.answers(answers_Q), questions.score(answers_Q))
        for head, answers_Q in zip(heads, answers_HQ, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Rate:
    """The learning rate chosen for a method, and the held-out accuracy (percent) of every rate tried."""

    lr: float
    tried: Mapping[float, float | None]  # None: the loss was no longer finite


def choose_rates(
    material: Material, methods: Mapping[str, Mapping[str, Json]], grid: Sequence[float], reporter: Reporter
) -> dict[str, Rate]:
    """Each method's best rate on a part of train held out by image, with the first seed: one pass for all.

    Every rate is trained for the run's full length, so that its schedule is the one that is used later. The score is
    that of the last epoch, or of the best where heads stop early.

    Raises:
        JobFailed: no rate of the grid trains a method.
    """
    config, questions = material.config, material.questions
    index, held = questions.held_out
    specs = [
        HeadSpec(method=method, seed=config.seeds[0], lr=lr, method_args=arguments)
        for method, arguments in methods.items()
        for lr in grid
    ]
    heads = material.heads(specs, index)
    say_where(material, reporter)
    train(
        heads,
        material.train_reader,
        questions.targets,
        index,
        config=config,
        held=held,
        reporter=reporter,
        label="choosing rates",
        tolerant=True,
    )
    chosen: dict[str, Rate] = {}
    for method in methods:
        tried = {head.spec.lr: head.held_out for head in heads if head.spec.method == method}
        scored = {lr: score for lr, score in tried.items() if score is not None}
        if not scored:
            raise JobFailed(f"No rate of {', '.join(f'{lr:g}' for lr in grid)} trains {method}.", next="--lr 1e-5")
        # The smaller of equal rates: it is the safer one on other seeds.
        chosen[method] = Rate(max(sorted(scored), key=lambda lr: scored[lr]), tried)
    return chosen


def say_where(material: Material, reporter: Reporter) -> None:
    """One line: where the features stay between epochs, and why."""
    reader = material.train_reader
    size = f"{reader.bytes_needed / 1e9:.2f} GB"
    if reader.in_memory:
        reporter.say(f"features: {size}, kept in memory on {material.device}")
    else:
        reporter.say(f"features: {size}, read from the store in every epoch")


@contextlib.contextmanager
def place(config: TrainConfig, reporter: Reporter) -> Iterator[torch.device]:
    """The device of a run; inside, torch uses `config.threads` threads."""
    devices = parse_devices(config.device)
    if len(devices) > 1 and config.device != "auto":
        reporter.say(f"--devices {config.device}: heads share one read, so only {devices[0]} is used")
    before = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        yield torch.device(devices[0])
    finally:
        torch.set_num_threads(before)
