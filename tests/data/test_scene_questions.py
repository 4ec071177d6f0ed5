"""Questions about scenes: answers recomputed from the description by other means than the code's own."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from umecache.data.scene_questions import CLEAR_DISTANCE, FAMILIES, Noun, Query, all_queries
from umecache.data.scenes import COLORS, KINDS, Scene, Shape, make_scene


def shape(kind: str, color: str, x: float = 50.0, y: float = 50.0) -> Shape:
    return Shape(kind, color, "small", x, y, 10.0, 0.0)


def scene(*shapes: Shape) -> Scene:
    return Scene(1, 0, "white", "plain", shapes)


TWO = scene(shape("circle", "red", 20, 90), shape("star", "blue", 80, 30))


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (Query("color", Noun(kind="circle")), "red"),
        (Query("color", Noun(kind="square")), None),
        (Query("shape", Noun(color="blue")), "star"),
        (Query("shape", Noun(color="green")), None),
        (Query("count", Noun()), "2"),
        (Query("count", Noun(kind="star")), "1"),
        (Query("count", Noun(color="green")), "0"),
        (Query("exist", Noun("circle", "red")), "yes"),
        (Query("exist", Noun("circle", "blue")), "no"),
        (Query("exist", Noun("square", "green")), None),
        (Query("relation", Noun(kind="circle"), Noun(kind="star"), "left"), "yes"),
        (Query("relation", Noun(kind="circle"), Noun(kind="star"), "right"), "no"),
        (Query("relation", Noun(kind="circle"), Noun(kind="star"), "below"), "yes"),
        (Query("relation", Noun(kind="circle"), Noun(kind="star"), "above"), "no"),
        (Query("relation", Noun(kind="circle"), Noun(kind="square"), "left"), None),
        (Query("which", Noun(kind="circle"), Noun(kind="star"), "above"), "star"),
        (Query("which", Noun(kind="star"), Noun(kind="circle"), "left"), "circle"),
        (Query("exist", Noun(kind="square")), "no"),
        (Query("exist", Noun(color="blue")), "yes"),
    ],
)
def test_answers(query: Query, answer: str | None) -> None:
    assert query.answer(TWO) == answer


def test_two_of_a_kind_are_not_the_circle() -> None:
    doubled = scene(shape("circle", "red", 20), shape("circle", "blue", 80))
    assert Query("color", Noun(kind="circle")).answer(doubled) is None
    assert Query("count", Noun(kind="circle")).answer(doubled) == "2"


def test_no_relation_is_asked_of_shapes_at_the_same_height() -> None:
    level = scene(shape("circle", "red", 20, 50), shape("star", "blue", 80, 50 + CLEAR_DISTANCE - 1))
    assert Query("relation", Noun(kind="circle"), Noun(kind="star"), "above").answer(level) is None
    assert Query("relation", Noun(kind="circle"), Noun(kind="star"), "left").answer(level) == "yes"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_question_can_be_asked_and_has_several_answers(family: str) -> None:
    scenes = [make_scene(image_id, seed=9) for image_id in range(1500)]
    queries = all_queries(family)
    assert len(set(queries)) == len(queries)
    for query in queries:
        answers = {query.answer(each) for each in scenes} - {None}
        assert len(answers) >= 2, query


def test_words_say_what_is_asked() -> None:
    """No two questions share a wording, and every wording names what the question names."""
    meant: dict[str, set[Query]] = defaultdict(set)
    for family in FAMILIES:
        for query in all_queries(family):
            assert len(set(query.phrasings())) == len(query.phrasings()) >= 2
            for text in query.phrasings():
                meant[text].add(query)
                assert len(text.split()) <= 9
                assert text[0].isupper()
                assert text.endswith("?")
                named = Counter(re.findall("|".join([*KINDS, *COLORS]), text))
                nouns = [query.noun, query.other] if query.side else [query.noun]
                assert named == Counter(w for n in nouns for w in (n.kind, n.color) if w)
    assert all(len(queries) == 1 for queries in meant.values())


def test_article() -> None:
    assert Noun(kind="star").article == "a"
    assert Noun(color="orange").article == "an"
