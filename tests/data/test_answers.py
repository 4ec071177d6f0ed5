"""The answer vocabulary: what is in it, in which order, and what it covers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umecache.data.answers import SOFT_SCORES, AnswerVocab
from umecache.data.dataset import Annotation, open_dataset
from umecache.data.normalize import normalize
from umecache.data.scoring import score_question
from umecache.errors import DataError, UsageError

RAW = st.sampled_from(["yes", "Yes.", "no", "two", "2", "the", "a dog", "dog", "t-shirt", "zebra", "ant"])


def annotation(answer: str, answers: list[str] | None = None) -> Annotation:
    return Annotation(tuple(answers or [answer] * 10), answer, "what", "other")


def vocab_of(*answers: str, **bounds: Any) -> AnswerVocab:
    return AnswerVocab.build([annotation(answer) for answer in answers], **bounds)


def test_most_frequent_first_equals_by_name() -> None:
    vocab = vocab_of("b", "Two", "a b", "2", "b.", "zebra", "ant", "the")
    assert vocab.answers == ("b", "2", "", "ant", "zebra")
    assert vocab.counts == (3, 2, 1, 1, 1)
    assert (len(vocab), vocab.questions, vocab.coverage) == (5, 8, 1.0)


def test_top_n_and_minimum_count() -> None:
    answers = ["yes"] * 5 + ["no"] * 3 + ["red"] * 3 + ["cat"]
    assert vocab_of(*answers, classes=2).answers == ("yes", "no")
    assert vocab_of(*answers, classes=2).coverage == 8 / 12
    assert vocab_of(*answers, min_count=3).answers == ("yes", "no", "red")
    assert vocab_of(*answers, min_count=4, classes=3).answers == ("yes",)
    assert vocab_of(*answers, classes=99).coverage == 1.0
    assert vocab_of(*answers, min_count=99).answers == ()
    for bounds in ({"classes": 0}, {"min_count": 0}, {"classes": -1}):
        with pytest.raises(UsageError, match="leaves no answer"):
            vocab_of(*answers, **bounds)


def test_the_definition_says_what_is_counted() -> None:
    answers = ["yes"] * 5 + ["no"] * 3
    assert vocab_of(*answers, classes=1).definition == (
        "share of the 8 train questions whose normalised most common answer is one of the 1 most frequent"
    )
    assert "of the 8 train and val questions" in vocab_of(*answers, source="train and val").definition
    assert "all 2 (each of 2 questions or more)" in vocab_of(*answers, min_count=2).definition


@given(st.lists(RAW, min_size=1, max_size=40), st.integers(1, 8), st.randoms(use_true_random=False))
def test_properties(answers: list[str], classes: int, rng: random.Random) -> None:
    vocab = vocab_of(*answers, classes=classes)
    shuffled = list(answers)
    rng.shuffle(shuffled)
    assert vocab_of(*shuffled, classes=classes) == vocab
    assert list(vocab.counts) == sorted(vocab.counts, reverse=True)
    assert all(normalize(answer) == answer for answer in vocab.answers)
    inside = sum(normalize(answer) in vocab.answers for answer in answers)
    assert vocab.coverage == inside / len(answers) == vocab.covers(map(annotation, answers))
    assert vocab_of(*answers, classes=classes + 1).coverage >= vocab.coverage
    assert [vocab.index(answer) for answer in vocab.answers] == list(range(len(vocab)))
    for raw in answers:
        assert vocab.index(raw) == vocab.hard_target(annotation(raw)) == vocab.index(normalize(raw))


@given(st.lists(RAW, min_size=10, max_size=10), st.integers(1, 8))
def test_soft_targets_are_official_scores(ten: list[str], classes: int) -> None:
    vocab = vocab_of("yes", "no", "2", "", "dog", "t shirt", "zebra", "ant", classes=classes)
    target = vocab.soft_target(annotation(ten[0], ten))
    normalised = [normalize(answer) for answer in ten]
    for position, answer in enumerate(vocab.answers):
        score = target.get(position, 0.0)
        assert (position in target) == (answer in normalised)
        assert score in SOFT_SCORES
        if len(set(ten)) > 1:  # unanimous people are compared as they wrote
            assert score == pytest.approx(score_question(answer, ten))


def test_targets_outside_the_vocabulary() -> None:
    vocab = vocab_of("yes", "no")
    assert vocab.hard_target(annotation("maybe")) is None
    assert vocab.index("maybe") is None
    assert vocab.soft_target(annotation("maybe", ["maybe"] * 7 + ["Yes"] * 3)) == {vocab.index("yes"): 0.9}
    assert vocab.covers([]) == 0.0


@given(st.lists(RAW, min_size=1, max_size=10))
def test_json_and_back(answers: list[str]) -> None:
    vocab = vocab_of(*answers, classes=5)
    again = AnswerVocab.from_json(json.loads(json.dumps(vocab.to_json())))
    assert again == vocab and again.coverage == vocab.coverage and again.index(answers[0]) == vocab.index(answers[0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"format": ...}, "no answer vocabulary.*'format'"),
        ({"answers": 3}, "no answer vocabulary"),
        ({"answers": ["a", "a"]}, "each answer once"),
        ({"answers": ["a"]}, "a count each"),
        ({"answers": ["a", 3]}, "must be strings"),
        ({"counts": [1, -1]}, "whole numbers above 0"),
        ({"counts": [1, True]}, "whole numbers above 0"),
        ({"questions": "3"}, "whole numbers above 0"),
    ],
)
def test_documents_that_are_none(changes: dict[str, Any], says: str) -> None:
    document = vocab_of("a", "b").to_json() | changes
    with pytest.raises(DataError, match=says):
        AnswerVocab.from_json({key: value for key, value in document.items() if value is not ...})
    with pytest.raises(DataError, match="no answer vocabulary"):
        AnswerVocab.from_json([document])


@pytest.mark.shared
def test_real_answers(shared: Path) -> None:
    annotations = (open_dataset(shared / "data" / "vqa-v2-mini").split("train").annotations or {}).values()
    vocab = AnswerVocab.build(annotations, classes=100)
    assert set(vocab.answers[:2]) == {"yes", "no"}
    assert 0.6 < vocab.coverage < 0.9
    assert AnswerVocab.build(annotations, min_count=2).counts[-1] == 2
