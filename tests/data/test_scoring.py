"""Scores against the official evaluator's outputs, against its rules written out the slow way, and by property."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umecache.data.dataset import Annotation, Question, Split, open_dataset
from umecache.data.images import ImageIndex
from umecache.data.normalize import clean, map_words, normalize, remove_punctuation
from umecache.data.scoring import PROTOCOLS, Scores, read_results, score_predictions, score_question, write_results
from umecache.errors import DataError, UnknownName

LADDER = {0: 0.0, 1: 0.3, 2: 0.6, 3: 0.9}
ANSWER = st.sampled_from(
    ["yes", "Yes", "yes.", " yes", "no", "two", "2", "the 2", "t-shirt", "t shirt", "", "dont", "don't", "a\nb", "b"]
)
TEN = st.lists(ANSWER, min_size=10, max_size=10)


def by_the_rules(prediction: str, records: list[dict[str, Any]], protocol: str) -> float:
    """Records, not strings, are left out: two people's equal answers both count."""
    records = [dict(record) for record in records]
    if protocol == "official-2021":
        for record in records:
            record["answer"] = clean(record["answer"])
        prediction = clean(prediction)
        if len({record["answer"] for record in records}) > 1:
            for record in records:
                record["answer"] = map_words(remove_punctuation(record["answer"]))
            prediction = map_words(remove_punctuation(prediction))
    else:
        if len({record["answer"] for record in records}) > 1:
            for record in records:
                record["answer"] = remove_punctuation(record["answer"])
        prediction = map_words(remove_punctuation(clean(prediction)))
    parts = []
    for record in records:
        others = [other for other in records if other != record]
        parts.append(min(1, float(len([o for o in others if o["answer"] == prediction])) / 3))
    total = 0.0
    for part in parts:
        total += part
    return total / len(parts)


def split_of(annotations: dict[int, Annotation], *, annotated: bool = True) -> Split:
    questions = [Question(key, 0, "what?") for key in sorted(annotations)]
    return Split("val", Path("data"), "toy", questions, annotations if annotated else None, ImageIndex(()))


def annotation(answers: list[str], question_type: str = "what", answer_type: str = "other") -> Annotation:
    return Annotation(tuple(answers), answers[0], question_type, answer_type)


@pytest.mark.shared
def test_every_official_case(shared: Path) -> None:
    cases = json.loads((shared / "eval" / "official-scores.json").read_text())
    assert len(cases) == 2000
    wrong = [c for c in cases if round(100 * score_question(c["prediction"], c["answers"]), 2) != c["accuracy"]]
    assert wrong == []


@pytest.mark.shared
def test_the_official_scores_of_a_results_file(shared: Path, tmp_path: Path) -> None:
    case = json.loads((shared / "eval" / "mini-val-result-and-scores.json").read_text())
    split = open_dataset(shared / "data" / "vqa-v2-mini").split("val")
    records = case["results"]
    random.Random(0).shuffle(records)  # the order of a results file changes nothing
    path = tmp_path / "results.json"
    path.write_text(json.dumps(records))
    scores = score_predictions(read_results(path), split)
    assert scores.overall == case["accuracy"]["overall"]
    assert scores.per_answer_type == case["accuracy"]["perAnswerType"]
    assert scores.per_question_type == case["accuracy"]["perQuestionType"]
    assert (scores.questions, scores.missing) == (542, 0)


@given(ANSWER, TEN, st.sampled_from(["official-2021", "official-2016"]))
def test_same_as_the_rules_written_out(prediction: str, answers: list[str], protocol: str) -> None:
    records = [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(answers)]
    # Equal to the last bit: on ties the second decimal of a mean hangs on it.
    assert score_question(prediction, answers, protocol) == by_the_rules(prediction, records, protocol)


@given(ANSWER, TEN, st.randoms(use_true_random=False))
def test_the_ladder_and_the_order_of_people(prediction: str, answers: list[str], rng: random.Random) -> None:
    score = score_question(prediction, answers)
    same = [clean(a) for a in answers] if len({clean(a) for a in answers}) == 1 else [normalize(a) for a in answers]
    wanted = clean(prediction) if len({clean(a) for a in answers}) == 1 else normalize(prediction)
    assert score == pytest.approx(LADDER.get(same.count(wanted), 1.0))
    rng.shuffle(answers)
    assert score_question(prediction, answers) == pytest.approx(score)


@given(ANSWER, TEN)
def test_the_thesis_never_gives_less_than_the_rule_it_simplifies(prediction: str, answers: list[str]) -> None:
    matches = [normalize(answer) for answer in answers].count(normalize(prediction))
    assert score_question(prediction, answers, "thesis") == min(matches / 3, 1.0) >= LADDER.get(matches, 1.0)


@pytest.mark.parametrize(
    ("prediction", "answers", "scores"),  # official-2021, official-2016, thesis
    [
        # Unanimous people, answer with a period: in 2021 neither side is normalised, in 2016 only the prediction.
        ("yes.", ["yes"] * 10, (0.0, 1.0, 1.0)),
        ("yes", ["yes."] * 10, (0.0, 0.0, 1.0)),
        ("yes.", ["yes."] * 10, (1.0, 0.0, 1.0)),
        ("Yes", ["yes"] * 10, (0.0, 1.0, 1.0)),
        # Unanimous but for white space: in 2021 that is stripped first.
        (" yes\n", ["yes", "yes ", "\tyes"] + ["yes"] * 7, (1.0, 1.0, 1.0)),
        (" yes\n", ["yes", "yes ", "\tyes"] + ["yes "] * 7, (1.0, 0.3, 1.0)),
        # They disagree: in 2016 their capitals, articles and number words stay.
        ("2", ["Two"] * 5 + ["2"] * 2 + ["no"] * 3, (1.0, 0.6, 1.0)),
        ("the cat", ["cat"] * 3 + ["dog"] * 7, (0.9, 0.9, 1.0)),
        ("cat", ["the cat"] * 3 + ["dog"] * 7, (0.9, 0.0, 1.0)),
        ("", ["the", "a", ""] + ["dog"] * 7, (0.9, 0.3, 1.0)),
        ("cat", ["cat"] * 2 + ["dog"] * 8, (0.6, 0.6, 2 / 3)),
    ],
)
def test_how_the_protocols_differ(prediction: str, answers: list[str], scores: tuple[float, ...]) -> None:
    found = [score_question(prediction, answers, protocol) for protocol in PROTOCOLS]
    assert found == pytest.approx(scores)


def test_sums_run_left_to_right_in_the_order_of_the_annotations() -> None:
    # 16 questions that add up to 5.1: 31.875 %, a tie that the last bit of the sum decides. Left to right it is above;
    # backwards, or added up exactly, below.
    people = [["b"] * 5 + ["c"] * 5] * 10 + [["a"] * 2 + ["b"] * 8] + [["a"] * 3 + ["b"] * 7] * 5
    for ordered, overall in ((people, 31.88), (people[::-1], 31.87)):
        annotations = {n: annotation(ten) for n, ten in enumerate(ordered)}
        for predictions in (dict.fromkeys(range(16), "a"), dict.fromkeys(reversed(range(16)), "a")):
            scores = score_predictions(predictions, split_of(annotations))
            assert scores.overall == scores.per_question_type["what"] == overall


def test_groups_are_means_of_their_questions() -> None:
    yes = ["yes"] * 4 + ["no"] * 6
    annotations = {
        1: annotation(yes, "is it", "yes/no"),
        2: annotation(["cat"] * 3 + ["dog"] * 7, "what", "other"),
        3: annotation(["cat"] * 1 + ["dog"] * 9, "what", "other"),
    }
    scores = score_predictions({1: "yes", 2: "cat", 3: "cat"}, split_of(annotations))
    assert scores.per_question == {1: 100.0, 2: 90.0, 3: 30.0}
    assert scores.overall == 73.33
    assert scores.per_answer_type == {"yes/no": 100.0, "other": 60.0}
    assert scores.per_question_type == {"is it": 100.0, "what": 60.0}
    document = scores.to_json()
    assert document["protocol"] == "official-2021" and document["questions"] == 3 and "per_question" not in document


@given(st.lists(st.tuples(ANSWER, TEN, st.sampled_from("abc")), min_size=1, max_size=12), st.sampled_from(PROTOCOLS))
def test_bounds_and_mean(rows: list[tuple[str, list[str], str]], protocol: str) -> None:
    annotations = {n: annotation(ten, kind) for n, (_, ten, kind) in enumerate(rows)}
    predictions = {n: row[0] for n, row in reversed(list(enumerate(rows)))}
    scores = score_predictions(predictions, split_of(annotations), protocol=protocol)
    values = scores.per_question.values()
    assert all(0 <= value <= 100 for value in values)
    assert scores.overall == pytest.approx(sum(values) / len(values), abs=0.0101)
    assert (
        min(scores.per_question_type.values()) - 0.01 <= scores.overall <= max(scores.per_question_type.values()) + 0.01
    )
    assert list(scores.per_question) == list(annotations)


def test_missing_predictions() -> None:
    split = split_of({n: annotation(["yes"] * 10) for n in range(1, 6)})
    with pytest.raises(DataError, match=r"^r\.json misses 2 of the 5 questions.*first: question_id 4.*--allow-missing"):
        score_predictions({1: "yes", 2: "yes", 3: "yes"}, split, source="r.json")
    scores = score_predictions({1: "yes", 2: "yes", 3: "no"}, split, allow_missing=True)
    assert (scores.overall, scores.missing, scores.questions) == (40.0, 2, 5)
    assert scores.per_question == {1: 100.0, 2: 100.0, 3: 0.0, 4: 0.0, 5: 0.0}
    assert score_predictions({}, split, allow_missing=True).overall == 0.0


def test_an_empty_answer_is_not_a_missing_one() -> None:
    split = split_of({1: annotation([""] * 10)})
    scores = score_predictions({1: ""}, split)
    assert (scores.overall, scores.missing) == (100.0, 0)


def test_unknown_predictions_are_refused_even_where_missing_ones_are_allowed() -> None:
    split = split_of({1: annotation(["yes"] * 10)})
    with pytest.raises(DataError, match=r"answers 2 questions .*'val' of data doesn't have .*first: question_id 8"):
        score_predictions({1: "yes", 8: "no", 9: "no"}, split, allow_missing=True)
    with pytest.raises(DataError, match=r"and misses 1 of its 1 questions"):
        score_predictions({8: "no"}, split)


def test_no_annotations_no_such_protocol() -> None:
    annotations = {1: annotation(["yes"] * 10)}
    with pytest.raises(DataError, match="no annotations to score against"):
        score_predictions({1: "yes"}, split_of(annotations, annotated=False))
    with pytest.raises(UnknownName, match="official-2021"):
        score_predictions({1: "yes"}, split_of(annotations), protocol="official-2012")
    with pytest.raises(UnknownName, match="Did you mean"):
        score_question("yes", ["yes"] * 10, "official-2020")


def test_what_is_written_scores_the_same(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    split = open_dataset(write_folder(val=9)).split("val")
    predictions = {question.id: text for question, text in zip(split.questions, ["yes", "no", "two"] * 3, strict=True)}
    write_results(tmp_path / "r.json", predictions, split)
    first: Scores = score_predictions(predictions, split)
    assert score_predictions(read_results(tmp_path / "r.json"), split) == first
