"""Answers as training targets, and the part of train that is held out.

    targets = Targets(split, vocab)
    targets.hard(index_B)     # class per question
    targets.soft(index_B)     # official soft score of every class

Shapes: B batch, C answer classes. `index` counts questions of the split in file order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from umecache.data.answers import AnswerVocab
from umecache.data.dataset import Split
from umecache.errors import DataError
from umecache.training.order import Index as Index


class Targets:
    """The answers of one annotated split over a vocabulary.

    Attributes:
        classes: C.
        known: positions of the questions whose most common answer is in the vocabulary. Only these are trained on:
            cross entropy has no class for the others.
    """

    def __init__(self, split: Split, vocab: AnswerVocab) -> None:
        if split.annotations is None:
            raise DataError(
                f"{split.folder}: the split {split.name!r} has no annotations.",
                why="Training needs answers.",
                next="name an annotated split with --train-split",
            )
        self._split, self._vocab = split, vocab
        hard = (vocab.hard_target(split.annotations[question.id]) for question in split.questions)
        self._hard: Index = np.fromiter((-1 if h is None else h for h in hard), np.int64, len(split.questions))
        self.classes = len(vocab.answers)
        self.known: Index = np.flatnonzero(self._hard >= 0)

    def hard(self, index_B: Index) -> Tensor:
        """Class of each question [B] int64; -1 where its most common answer is not in the vocabulary."""
        return torch.from_numpy(self._hard[index_B])

    def soft(self, index_B: Index) -> Tensor:
        """Soft score of each class [B, C] float32, in 0..1."""
        soft_BC = torch.zeros(len(index_B), self.classes)
        for row, position in enumerate(index_B):
            start, end = self._scored.offsets[position : position + 2]
            soft_BC[row, self._scored.classes[start:end]] = self._scored.scores[start:end]
        return soft_BC

    def accuracy(self, index: Index, predicted: Index) -> float:
        """Mean soft score of predicted classes over questions, in percent.

        Within rounding this is the official accuracy: it scores normalised answers always, the official rule only
        where annotators disagree. Used to choose (early stopping, rates), never to report.
        """
        scored = self._scored
        starts, lengths = scored.offsets[index], np.diff(scored.offsets)[index]
        # The places of all (class, score) pairs of these questions, one question after the other.
        before = np.cumsum(lengths) - lengths
        places = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
        hit = scored.classes.numpy()[places] == np.repeat(predicted, lengths)
        # Summed exactly: the order of questions must not decide between equal epochs or rates.
        return 100.0 * math.fsum(scored.scores.numpy()[places[hit]].tolist()) / max(len(index), 1)

    def sha256(self, *, soft: bool) -> str:
        """Digest (hex) of the class of every question; and of its soft scores, where they count."""
        digest = hashlib.sha256(self._hard.tobytes())
        if soft:
            for part in (self._scored.offsets, self._scored.classes.numpy(), self._scored.scores.numpy()):
                digest.update(part.tobytes())
        return digest.hexdigest()

    @cached_property
    def _scored(self) -> _Scored:
        # Worked out when first asked for: cross entropy without a held-out part never does.
        annotations = self._split.annotations or {}
        targets = [self._vocab.soft_target(annotations[question.id]) for question in self._split.questions]
        return _Scored(targets)


class _Scored:
    """Ragged (class, score) pairs: those of question i are at offsets[i] to offsets[i + 1]."""

    def __init__(self, targets: Sequence[dict[int, float]]) -> None:
        self.offsets = np.concatenate([[0], np.cumsum([len(target) for target in targets])]).astype(np.int64)
        self.classes = torch.tensor([c for target in targets for c in target], dtype=torch.int64)
        self.scores = torch.tensor([s for target in targets for s in target.values()], dtype=torch.float32)


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Index, Index]:
    """Divide a split's questions by image: (positions to train on, positions held out).

    About `fraction` of the images, all their questions with them, so that no held-out question asks about an image
    that is trained on.

    Raises:
        DataError: fewer than two images.
    """
    images = list(split.image_ids)
    if len(images) < 2:
        raise DataError(f"{split.folder}: the split {split.name!r} has too few images to hold some out.")
    count = min(max(round(fraction * len(images)), 1), len(images) - 1)
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    held = {images[position] for position in chosen}
    is_held = np.fromiter((question.image_id in held for question in split.questions), bool, len(split.questions))
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def some_labels(split: Split, count: int | None, seed: int) -> Index:
    """Positions of `count` questions of a split, drawn evenly, in file order; None, or more than there are: all.

    Of one seed, the fewer are among the more.
    """
    drawn: Index = np.random.default_rng(seed).permutation(len(split.questions))[:count]
    return np.sort(drawn)
