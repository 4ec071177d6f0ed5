"""One split's questions with their cached features and answers, as NumPy arrays. No torch is loaded.

    train = umecache.open_examples("train", data="vqa-v2", text="minilm", image="mobilenetv2")
    for batch in train.batches(64, order_seed=0, epoch=3, index=train.labelled):
        tokens_BTD, mask_BT = batch.features["text"]
        batch.ids, batch.labels                       # [B] question ids, [B] classes of train.vocab

Shapes: B batch, T tokens of a modality padded to the batch's longest record, D width of its hidden states, N questions
of the split, C answer classes.

Examples may be used from threads, after a fork and in spawned workers: the stores' memory maps are shared, and a pickle
holds their paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from umecache.data.answers import AnswerVocab
from umecache.data.dataset import Dataset, Split, open_dataset
from umecache.errors import DataError, UsageError
from umecache.stores import Store
from umecache.training.order import Index, epoch_order
from umecache.training.refs import StoreRef, store_ref
from umecache.training.resolve import find_sources

NO_CLASS = -1
"""The label of a question without an answer, or whose most common answer the vocabulary lacks."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some questions.

    Attributes:
        ids: question ids [B].
        labels: classes of their most common answers [B]; -1: `NO_CLASS`.
        features: modality -> tokens [B, T, D], zero behind each record's end, and mask [B, T], True at tokens. An input
            that could not be read has no token at all.
        soft: official soft scores [B, C]; None where the examples were opened without.
    """

    ids: Index
    labels: Index
    features: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]
    soft: NDArray[np.float32] | None = None


class Examples:
    """Questions by position, 0 to N - 1 in file order; made by `open_examples`.

    Attributes:
        vocab: the answers that labels count; None where no answers are known.
        ids: question ids [N].
        images: the image that each question asks about [N].
        labels: classes [N], or -1.
        dims: modality -> D.
    """

    def __init__(
        self,
        split: Split,
        stores: Mapping[str, tuple[Store, Index]],
        vocab: AnswerVocab | None,
        *,
        soft: bool,
        dtype: DTypeLike,
    ) -> None:
        questions = split.questions
        self.vocab = vocab
        self.ids: Index = np.array([q.id for q in questions], np.int64)
        self.images: Index = np.array([q.image_id for q in questions], np.int64)
        self.labels: Index = np.full(len(questions), NO_CLASS, np.int64)
        scores: list[dict[int, float]] = [{}] * len(questions)
        if vocab is not None and split.annotations is not None:
            told = [split.annotations[q.id] for q in questions]
            hard = (vocab.hard_target(each) for each in told)
            self.labels = np.fromiter((NO_CLASS if h is None else h for h in hard), np.int64, len(told))
            if soft:  # normalises all ten answers of every question: 4.4 million in VQA v2 train
                scores = [vocab.soft_target(each) for each in told]
        self._soft = _Ragged(scores) if soft else None
        self._records = {name: (store, store.rows(ids)) for name, (store, ids) in stores.items()}
        self._dtype = dtype
        self.dims = {name: store.dim for name, (store, _) in self._records.items()}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> Index:
        """Positions that have a class: those to train a classifier on."""
        return np.flatnonzero(self.labels != NO_CLASS)

    def __getitem__(self, position: int) -> dict[str, NDArray[Any]]:
        """Modality -> tokens [T, D] of one question, without padding."""
        features = {}
        for name, (store, rows) in self._records.items():
            tokens_BTD, mask_BT = store.batch_rows(rows[[position]])
            features[name] = self._cast(tokens_BTD)[0, mask_BT[0]]
        return features

    def batch(self, positions: Sequence[int] | Index) -> Batch:
        """The questions at these positions."""
        index_B: Index = np.asarray(positions, np.int64)
        features = {}
        for name, (store, rows) in self._records.items():
            tokens_BTD, mask_BT = store.batch_rows(rows[index_B])
            features[name] = self._cast(tokens_BTD), mask_BT
        soft = None if self._soft is None else self.soft_labels(index_B)
        return Batch(self.ids[index_B], self.labels[index_B], features, soft)

    def _cast(self, tokens: NDArray[Any]) -> NDArray[Any]:
        return tokens if self._dtype is None else tokens.astype(self._dtype, copy=False)

    def soft_labels(self, positions: Sequence[int] | Index) -> NDArray[np.float32]:
        """Official soft score of every class [B, C], 0..1; zero where no answer is known.

        Raises:
            UsageError: the examples were opened without.
        """
        if self._soft is None:
            raise UsageError("These examples have no soft labels.", next="open_examples(..., soft=True)")
        scores_BC = np.zeros((len(positions), len(self.vocab.answers) if self.vocab else 0), np.float32)
        for row, position in enumerate(positions):
            start, end = self._soft.offsets[position : position + 2]
            scores_BC[row, self._soft.classes[start:end]] = self._soft.scores[start:end]
        return scores_BC

    def order(
        self, *, order_seed: int | None, epoch: int = 0, window: int | None = None, index: Sequence[int] | Index | None
    ) -> Index:
        """Positions in the order of one epoch.

        Args:
            order_seed: None: as they are in `index`.
            window: images whose questions are shuffled together, so that each image is read once in an epoch, soon
                after its neighbours (1024: 0.9 GB of ViT-B/16 at 384 px); None: all questions are shuffled.
            index: the positions; None: all.
        """
        positions: Index = np.arange(len(self)) if index is None else np.asarray(index, np.int64)
        if order_seed is None:
            return positions
        if window is None:
            return epoch_order(positions, order_seed=order_seed, epoch=epoch)
        return epoch_order(positions, order_seed=order_seed, epoch=epoch, images=self.images, window=window)

    def batches(
        self,
        batch_size: int,
        *,
        order_seed: int | None = None,
        epoch: int = 0,
        window: int | None = None,
        index: Sequence[int] | Index | None = None,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """One epoch; arguments as `order`.

        Args:
            batch_size: questions.
            drop_last: leave out a last batch that is smaller.

        Raises:
            UsageError: a batch size below 1.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: give a whole number from 1.")
        order = self.order(order_seed=order_seed, epoch=epoch, window=window, index=index)
        return (self.batch(part) for part in cut(order, batch_size, drop_last=drop_last))


class _Ragged:
    """(class, score) pairs: those of question i are at offsets[i] to offsets[i + 1]; small in a pickle."""

    def __init__(self, targets: Sequence[Mapping[int, float]]) -> None:
        self.offsets = np.cumsum([0, *(len(target) for target in targets)])
        self.classes = np.array([c for target in targets for c in target], np.int64)
        self.scores = np.array([s for target in targets for s in target.values()], np.float32)


def cut(order: Index, batch_size: int, *, drop_last: bool) -> Iterator[Index]:
    """An epoch's order, batch by batch."""
    end = len(order) - len(order) % batch_size if drop_last else len(order)
    return (order[first : first + batch_size] for first in range(0, end, batch_size))


def open_examples(
    split: str = "train",
    *,
    data: str | Path | None = None,
    text: StoreRef | None = None,
    image: StoreRef | None = None,
    features: Mapping[str, StoreRef] | None = None,
    modalities: Sequence[str] = ("text", "image"),
    vocab: AnswerVocab | None = None,
    train_split: str = "train",
    classes: int = 3129,
    min_count: int | None = None,
    limit: int | None = None,
    soft: bool = False,
    dtype: DTypeLike = np.float32,
) -> Examples:
    """A split's questions, their cached features and their answers.

    Args:
        split: any that the data has.
        data: a data folder or name; None: vqa-v2.
        text, image: stores, as `umecache fuse` finds them: a folder, a model's name, an open store; None: the only one
            there is.
        features: modality -> store, beside or in place of those two.
        modalities: which of text and image are looked for where they are not said.
        vocab: the answers that labels count; None: the most frequent ones of `train_split`, as `umecache fuse` takes
            them (`classes`, `min_count`).
        limit: the first so many questions of each split.
        soft: batches carry the official soft score of every answer, too.
        dtype: of tokens; None: as the store decodes them.

    Raises:
        UmecacheError: no such data, split or store; a store that is unfinished or holds something else.
    """
    dataset = open_dataset(data)
    questions = dataset.split(split, limit=limit)
    if vocab is None:
        vocab = _vocabulary(dataset, questions, train_split, classes, min_count, limit)
    sources = find_sources(
        dataset,
        (questions,),
        text=None if text is None else store_ref(text),
        image=None if image is None else store_ref(image),
        features={name: store_ref(store) for name, store in (features or {}).items()},
        limit=limit,
        needed=modalities,
    )
    stores = {source.name: (source.stores[split], source.ids(questions)) for source in sources}
    return Examples(questions, stores, vocab, soft=soft, dtype=dtype)


def _vocabulary(
    dataset: Dataset, split: Split, train_split: str, classes: int, min_count: int | None, limit: int | None
) -> AnswerVocab | None:
    """Train's most frequent answers; None where the data has no train split with answers."""
    if train_split != split.name and train_split not in dataset.splits:
        return None
    train = split if train_split == split.name else dataset.split(train_split, limit=limit)
    if train.annotations is None:
        return None
    found = AnswerVocab.build(
        train.annotations.values(), classes=classes or None, min_count=min_count, source=train.name
    )
    if not found.answers:
        raise DataError(f"No answer of {train.name!r} is left in the vocabulary.", next="min_count=1")
    return found
