"""Which questions are shown, and the document that carries everything."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from umecache.analysis.explain import choose_questions, explain, questions_by_id
from umecache.analysis.looks import Head, open_heads
from umecache.data.results import read_results
from umecache.errors import UmecacheError, UsageError


@pytest.fixture(scope="module")
def heads(sample_run: SimpleNamespace) -> list[Head]:
    return open_heads([sample_run.path / "seed-0", sample_run.path / "seed-1"])


def test_one_image_with_its_questions(heads: list[Head]) -> None:
    split = heads[0].inputs.split
    counts = Counter(question.image_id for question in split.questions)
    chosen = choose_questions(heads, count=3)
    assert len({question.image_id for question in chosen}) == 1
    assert len(chosen) == min(3, max(counts.values()))
    assert chosen == choose_questions(heads, count=3)
    assert len({choose_questions(heads, count=2, draw=draw)[0].image_id for draw in range(12)}) > 2
    image = split.image_ids[1]
    assert {question.image_id for question in choose_questions(heads, image=image)} == {image}
    with pytest.raises(UmecacheError, match="nothing about an image"):
        choose_questions(heads, image=-5)


def test_questions_on_which_heads_differ_come_first(heads: list[Head]) -> None:
    told = [read_results(head.run.path / "results_val.json") for head in heads]
    differ = {key for key in told[0] if told[0][key] != told[1][key]}
    assert differ
    chosen = choose_questions(heads, count=1)
    assert chosen[0].id in differ


def test_questions_by_id(heads: list[Head]) -> None:
    split = heads[0].inputs.split
    ids = [split.questions[4].id, split.questions[1].id]
    assert [question.id for question in questions_by_id(split, ids)] == ids
    with pytest.raises(UmecacheError, match="has no question -1"):
        questions_by_id(split, [-1])


def test_the_document_carries_what_is_drawn(heads: list[Head]) -> None:
    questions = choose_questions(heads, count=2)
    document, figure = explain(heads, questions, sample=4)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [each["label"] for each in document["runs"]] == ["concat (seed-0)", "concat (seed-1)"]
    assert len(document["panels"]) == 4 and document["sample"] == 4 and document["notes"] == []
    words = " ".join(text.get_text() for text in figure.texts)
    for panel in document["panels"]:
        assert np.array(panel["image_map"]).shape == (4, 4)
        assert len(panel["text_map"]) == len(panel["text_tokens"])
        assert panel["prediction"] in words and f"{panel['probability']:.2f}" in words
        told = panel["faithfulness"]
        assert told["gain"] == pytest.approx(told["insertion"] - told["deletion"], abs=2e-4)
        assert len(told["shares"]) == len(told["deletion_curve"]) == 17
    for row in document["faithfulness"]:
        assert row["questions"] == 4 and row["gain"]["error"] > 0
        assert f"gain {row['gain']['mean']:+.2f}" in words
    again, _ = explain(heads, questions, sample=4)
    assert again == document


def test_maps_that_a_method_lacks_are_said(heads: list[Head]) -> None:
    questions = choose_questions(heads, count=1)
    with pytest.raises(UmecacheError, match="nothing to draw"):
        explain(heads, questions, kinds=("attention",), sample=0)
    document, _ = explain(heads[:1], questions, kinds=("gradcam", "pairs"), sample=0)
    assert document["notes"] == ["concat (seed-0) has no pair weights."]
    assert document["faithfulness"][0]["questions"] == 0 and document["faithfulness"][0]["gain"] is None


def test_right_answers_that_nobody_knows(sample_run: SimpleNamespace) -> None:
    [head] = open_heads([sample_run.path / "seed-0"])  # its own: the split is changed
    split, questions = head.inputs.split, choose_questions([head], count=1)
    known = split.annotations
    assert known is not None and "never" not in head.run.vocab.answers
    split.annotations = {key: replace(each, answer="never", answers=("never",) * 10) for key, each in known.items()}
    with pytest.raises(UsageError) as caught:
        explain([head], questions, target="right", sample=0)
    assert "none of the right answers in its vocabulary" in caught.value.why
    split.annotations = None
    with pytest.raises(UsageError, match="right answers of 'val' are not known"):
        explain([head], questions, target="right", sample=0)


def test_what_is_struck_through_is_said_as_it_is(sample_run: SimpleNamespace) -> None:
    [head] = open_heads([sample_run.path / "seed-0"])
    split, questions = head.inputs.split, choose_questions([head], count=1)
    _, figure = explain([head], questions, sample=0)
    assert "other people" in " ".join(text.get_text() for text in figure.texts)
    assert split.annotations is not None
    split.annotations = {key: replace(each, labelled=True) for key, each in split.annotations.items()}
    labelled = replace(head, run=replace(head.run, facts={**head.run.facts, "protocol": "exact"}))
    _, figure = explain([labelled], questions, sample=0)
    assert "it is not the label" in " ".join(text.get_text() for text in figure.texts)
