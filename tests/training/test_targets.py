"""Targets: classes, soft scores, the held-out part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from umecache.data.answers import AnswerVocab
from umecache.data.dataset import Annotation, Question, Split, open_dataset
from umecache.data.images import ImageIndex
from umecache.errors import DataError
from umecache.training.targets import Targets, hold_out, some_labels


def split_of(answers: list[list[str]], *, annotated: bool = True) -> Split:
    """One question per list of answers, two questions per image."""
    questions = [Question(id=n, image_id=n // 2, text=f"question {n}?") for n in range(len(answers))]
    annotations = {
        n: Annotation(tuple((given * 10)[:10]), given[0], "what", "other") for n, given in enumerate(answers)
    }
    return Split("train", Path("data"), "data", questions, annotations if annotated else None, ImageIndex(()))


ANSWERS = [["yes"], ["no"], ["yes", "no"], ["rare"], ["The cat", "cat", "dog"]]


@pytest.fixture
def targets() -> Targets:
    split = split_of(ANSWERS)
    assert split.annotations is not None
    kept = [annotation for annotation in split.annotations.values() if annotation.answer != "rare"]
    return Targets(split, AnswerVocab.build(kept))


def test_hard_targets_are_normalised_and_minus_one_outside_the_vocabulary(targets: Targets) -> None:
    # Frequent first: yes (2), then cat, no in order of code points.
    assert targets.hard(np.arange(5)).tolist() == [0, 2, 0, -1, 1]
    assert targets.known.tolist() == [0, 1, 2, 4]
    assert targets.classes == 3


def test_soft_targets_are_the_official_scores_of_every_answer(targets: Targets) -> None:
    soft_BC = targets.soft(np.array([2, 3, 4]))
    # Five of each: both score 1. Nothing known: zeros. "The cat" and "cat" seven times, "dog" not in the vocabulary.
    expected = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(soft_BC, expected)


def test_accuracy_is_the_mean_soft_score(targets: Targets) -> None:
    index = np.array([0, 1, 2, 3])
    assert targets.accuracy(index, np.array([0, 0, 2, 0])) == pytest.approx(50.0)
    assert targets.accuracy(index, np.array([0, 2, 0, 1])) == pytest.approx(75.0)
    assert targets.accuracy(index[:0], index[:0]) == 0.0


def test_a_split_without_annotations_is_refused() -> None:
    split = split_of([["yes"]], annotated=False)
    with pytest.raises(DataError, match="has no annotations"):
        Targets(split, AnswerVocab(("yes",), (1,), 1, "one"))


def test_held_out_questions_share_no_image_with_the_rest() -> None:
    split = split_of([["yes"]] * 40)
    rest, held = hold_out(split, 0.25, seed=3)
    images = [question.image_id for question in split.questions]
    assert len(held) == 10  # 5 of 20 images
    assert sorted([*rest, *held]) == list(range(40))
    assert not {images[n] for n in rest} & {images[n] for n in held}


def test_the_held_out_part_depends_on_the_seed_alone() -> None:
    split = split_of([["yes"]] * 40)
    assert np.array_equal(hold_out(split, 0.25, 3)[1], hold_out(split, 0.25, 3)[1])
    assert not np.array_equal(hold_out(split, 0.25, 3)[1], hold_out(split, 0.25, 4)[1])


def test_something_is_always_held_out_and_something_left() -> None:
    split = split_of([["yes"]] * 4)
    for fraction in (0.01, 0.99):
        rest, held = hold_out(split, fraction, 0)
        assert len(rest) == len(held) == 2
    with pytest.raises(DataError, match="too few images"):
        hold_out(split_of([["yes"]]), 0.5, 0)


def test_real_questions(shared: Path) -> None:
    train = open_dataset(shared / "data" / "vqa-v2-mini").split("train")
    assert train.annotations is not None
    vocab = AnswerVocab.build(train.annotations.values(), classes=100)
    targets = Targets(train, vocab)
    assert len(targets.known) == pytest.approx(vocab.coverage * len(train.questions))
    # Predicting every question's own class scores at least what the least agreed answer gives, 0.3.
    best = targets.accuracy(targets.known, targets.hard(targets.known).numpy())
    assert 80 < best <= 100


def test_fewer_labels_are_among_more() -> None:
    split = split_of([["a"]] * 30)
    few, more = some_labels(split, 5, 0), some_labels(split, 12, 0)
    assert len(few) == 5 and set(few) < set(more) and (np.diff(more) > 0).all()
    assert some_labels(split, None, 0).tolist() == some_labels(split, 99, 0).tolist() == list(range(30))
    assert some_labels(split, 12, 1).tolist() != more.tolist()
