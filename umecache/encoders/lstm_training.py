"""Trains `lstm` on questions and answers alone, once, and keeps it for every later run.

    files = trained_files(TrainText(questions=..., answers=...), LstmSettings(), seed=0, context=LoadContext(...))

As in the VQA paper's language-only model: the last hidden and cell states of both layers (2,048 numbers) to 1,024
through tanh, dropout, softmax over the most common answers. Equal questions are one example whose target is the
distribution of their answers, weighted by how often they were asked: the same loss, a third less work on VQA v2.
Batches hold questions of one length, so nothing is padded.

The same data, settings and seed give the same weights on one kind of CPU, whatever the number of cores or processes:
training runs on the CPU in float32 with one thread (matrix products round differently with two), and only one process
of several trains. Cost: 3 ms for a question each time it is seen, so two minutes for the 38,000 distinct questions
among 59,000 of VQA v2.

Shapes: B questions of a batch, T words, D width of a layer, C answers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from umecache.encoders.base import Json, LoadContext, TrainText
from umecache.encoders.lstm_network import MAX_LENGTH, VOCAB, WEIGHTS, QuestionLSTM, pack, unpack
from umecache.encoders.tokens import WordVocab
from umecache.encoders.weights import seeded
from umecache.errors import UmecacheError, UsageError
from umecache.stores.claims import Claims
from umecache.stores.files import make_dirs, replace_file

RECIPE = 1  # raise when training changes, so that old cached weights are not taken for new ones
QUESTION_DIM = 1024  # the paper's width of the question vector
CLIP = 5.0  # gradient norm
FEWEST_SEEN, MOST_SEEN = 6_000, 40_000  # questions, counted each time they are seen, where the passes are not said


@dataclass(frozen=True, slots=True, kw_only=True)
class LstmSettings:
    """What `--model-arg` can say about `lstm`."""

    dim: int = 512  # D
    layers: int = 2
    embedding_dim: int = 300
    min_count: int = 2  # rarer words are unknown words
    classes: int = 1000  # C: the most common answers
    epochs: int | None = None  # passes over the distinct questions; None: see `passes`
    batch_size: int = 64
    lr: float = 1e-3  # Adam; falls to zero along a cosine
    dropout: float = 0.5  # before the softmax

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and "None" in str(field.type):
                continue
            whole = "int" in str(field.type)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise UsageError(f"{field.name}={value!r} is no {'whole ' if whole else ''}number.", next=_USAGE)
            if value <= 0 and not (field.name == "dropout" and value == 0):
                raise UsageError(f"{field.name}={value} must be above 0.", next=_USAGE)
        if self.dropout >= 1:
            raise UsageError(f"dropout={self.dropout} must be below 1.", next=_USAGE)

    def passes(self, distinct: int) -> int:
        """Passes over `distinct` questions: what was asked, else six, fewer for large data, more for very small."""
        seen = min(max(6 * distinct, FEWEST_SEEN), MOST_SEEN)
        return self.epochs if self.epochs is not None else max(1, round(seen / distinct))

    @classmethod
    def from_args(cls, model_args: Mapping[str, Json]) -> LstmSettings:
        """From `--model-arg`.

        Raises:
            UsageError: an unknown key, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in model_args:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                raise UsageError(
                    f"lstm has no model argument {key!r}.",
                    why=f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(known)}.",
                    next=_USAGE,
                )
        return cls(**model_args)  # type: ignore[arg-type]  # checked in __post_init__


_USAGE = "umecache extract --model lstm --model-arg KEY=NUMBER"


@dataclass(frozen=True, slots=True)
class Example:
    """A distinct question with the distribution of its answers."""

    ids: tuple[int, ...]
    answers: dict[int, int]  # class -> times


def trained_files(train_text: TrainText, settings: LstmSettings, seed: int, context: LoadContext) -> dict[str, bytes]:
    """The trained network's files: from the cache, or trained now and put there.

    Several processes may ask at once: one trains, the others wait for its files.

    Raises:
        UsageError: there is nothing to learn from.
    """
    key = training_key(train_text, settings, seed)
    if context.cache_dir is None:
        return train(train_text, settings, seed, context, key)
    folder = context.cache_dir / "lstm" / key[:16]
    make_dirs(folder / "claims")
    claims = Claims(folder / "claims")
    while True:
        files = _cached(folder, (VOCAB, WEIGHTS))
        if files is not None:
            return files
        claim = claims.acquire("train")
        if claim is None:
            time.sleep(0.2)
            continue
        try:
            files = _cached(folder, (VOCAB, WEIGHTS))  # finished between the look and the claim
            if files is None:
                files = train(train_text, settings, seed, context, key)
                for name in (VOCAB, WEIGHTS):  # the weights last: where they are, all is there
                    replace_file(folder / name, files[name], scratch=folder / "claims")
            return files
        finally:
            claims.release(claim)


def training_key(train_text: TrainText, settings: LstmSettings, seed: int) -> str:
    """Hash of all that decides the weights."""
    digest = hashlib.sha256(json.dumps([RECIPE, asdict(settings), seed], sort_keys=True).encode())
    for question, answer in zip(train_text.questions, train_text.answers, strict=True):
        digest.update(json.dumps([question, answer]).encode())
    return digest.hexdigest()


def _cached(folder: Path, names: tuple[str, ...]) -> dict[str, bytes] | None:
    """The files of an earlier run, if they are whole."""
    try:
        files = {name: (folder / name).read_bytes() for name in names}
        unpack(files)
    except (OSError, UmecacheError):
        return None  # absent or damaged: train again, and overwrite
    return files


def train(train_text: TrainText, settings: LstmSettings, seed: int, context: LoadContext, key: str) -> dict[str, bytes]:
    """Train from scratch and return the files.

    Raises:
        UsageError: no question, or none with an answer.
    """
    vocab = WordVocab.build(train_text.questions, min_count=settings.min_count, max_length=MAX_LENGTH)
    examples, classes = gather(train_text, vocab, settings.classes)
    with seeded(seed), one_thread():
        network = QuestionLSTM(len(vocab), settings.embedding_dim, settings.dim, settings.layers)
        head = nn.Sequential(
            nn.Linear(2 * settings.layers * settings.dim, QUESTION_DIM),
            nn.Tanh(),
            nn.Dropout(settings.dropout),
            nn.Linear(QUESTION_DIM, classes),
        )
        loss = _fit(network, head, examples, classes, settings, context)
    facts: dict[str, Json] = {
        "words": list(vocab.words),
        "training": {
            "data_sha256": key,
            "questions": len(train_text.questions),
            "distinct": len(examples),
            "answers": classes,
            "loss": round(loss, 4),
            "seed": seed,
            **asdict(settings),
            "epochs": settings.passes(len(examples)),
        },
    }
    return pack(network, facts)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in this thread alone inside; the number of threads is put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def gather(train_text: TrainText, vocab: WordVocab, classes: int) -> tuple[list[Example], int]:
    """Distinct questions (equal token ids) with their answers among the `classes` most common; and how many there are.

    Raises:
        UsageError: no question, or none with an answer.
    """
    counts = Counter(train_text.answers)
    common = sorted(counts, key=lambda answer: (-counts[answer], answer))[:classes]
    index = {answer: i for i, answer in enumerate(common)}
    answers: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for ids, answer in zip(vocab(train_text.questions), train_text.answers, strict=True):
        if answer in index:
            answers[tuple(ids.tolist())][index[answer]] += 1
    if not answers:
        raise UsageError(
            "There are no answered questions to train lstm on.",
            why="It learns from the train split.",
            next="umecache data info DIR",
        )
    return [Example(ids, dict(counter)) for ids, counter in answers.items()], len(common)


def batches(examples: list[Example], batch_size: int) -> Iterator[list[Example]]:
    """One pass in random order (torch's own generator); each batch holds questions of one length."""
    by_length: defaultdict[int, list[Example]] = defaultdict(list)
    for position in torch.randperm(len(examples)).tolist():
        by_length[len(examples[position].ids)].append(examples[position])
    found = [
        group[start : start + batch_size]
        for _, group in sorted(by_length.items())
        for start in range(0, len(group), batch_size)
    ]
    for position in torch.randperm(len(found)).tolist():
        yield found[position]


def _fit(
    network: QuestionLSTM,
    head: nn.Module,
    examples: list[Example],
    classes: int,
    settings: LstmSettings,
    context: LoadContext,
) -> float:
    """Minimise the cross entropy; returns its mean over the last pass."""
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=settings.lr)
    lengths = Counter(len(example.ids) for example in examples)
    epochs = settings.passes(len(examples))
    steps = epochs * sum(-(-count // settings.batch_size) for count in lengths.values())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    total = weight = 0.0
    with context.reporter.task("training lstm on the questions", epochs * len(examples), "questions") as task:
        for _ in range(epochs):
            total = weight = 0.0
            for batch in batches(examples, settings.batch_size):
                ids_BT, target_BC = _tensors(batch, classes)
                states, cells = network(ids_BT)
                question_BQ = torch.cat([state[:, -1] for state in states[1:]] + cells, dim=-1)
                log_probs_BC = torch.log_softmax(head(question_BQ), dim=-1)
                loss = -(target_BC * log_probs_BC).sum() / target_BC.sum()
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(parameters, CLIP)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                asked = float(target_BC.sum())
                total, weight = total + loss.item() * asked, weight + asked
                task.advance(len(batch), loss=total / weight)
    return total / max(weight, 1.0)


def _tensors(batch: list[Example], classes: int) -> tuple[Tensor, Tensor]:
    """Word ids [B, T] and answer counts [B, C]."""
    ids_BT = torch.tensor([example.ids for example in batch])
    target_BC = np.zeros((len(batch), classes), dtype=np.float32)
    for row, example in enumerate(batch):
        target_BC[row, list(example.answers)] = list(example.answers.values())
    return ids_BT, torch.from_numpy(target_BC)
