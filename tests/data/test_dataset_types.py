"""Annotations of people and labels are told apart."""

from __future__ import annotations

from umecache.data.dataset import Annotation as FromDataset
from umecache.data.dataset_types import Annotation, Question


def test_people_s_answers_are_the_usual_case() -> None:
    assert Annotation is FromDataset
    assert not Annotation(("yes",) * 10, "yes", "is the", "yes/no").labelled
    assert Annotation(("Yes",), "Yes", "labelled", "labelled", labelled=True).labelled


def test_questions_are_compared_by_what_they_ask() -> None:
    assert Question(1, 2, "what?") == Question(1, 2, "what?") != Question(1, 3, "what?")
