"""Labelled items: read strictly, scored by exact match."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from umecache.data.answers import AnswerVocab
from umecache.data.dataset import open_dataset
from umecache.data.info import describe
from umecache.data.items import read_items
from umecache.data.results import write_results
from umecache.data.scoring import read_results, score_predictions
from umecache.data.split import divide_split
from umecache.errors import DataError, UsageError

ITEMS: list[dict[str, Any]] = [
    {"id": 7, "text": "the film drags", "image": "posters/b.png", "label": "The End"},
    {"id": 3, "text": "a delight", "image": "posters/b.png", "audio": "clips/3.wav", "label": "no."},
    {"id": 5, "image": "posters/a.png", "label": 4, "year": 1999},
]


def write(folder: Path, items: list[Any], split: str = "train") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"items_{split}.jsonl"
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items) + "\n\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "films", ITEMS)
    write(tmp_path / "films", [{**item, "label": None} for item in ITEMS], "test")
    (tmp_path / "films" / "posters").mkdir()
    (tmp_path / "films" / "posters" / "b.png").touch()
    return tmp_path / "films"


def test_items_are_questions_about_images_with_one_answer(folder: Path) -> None:
    train = open_dataset(folder).split("train")
    assert [(q.id, q.image_id, q.text) for q in train.questions] == [
        (7, 7, "the film drags"),
        (3, 7, "a delight"),
        (5, 5, ""),
    ]
    assert train.annotations is not None
    assert [each.answer for each in train.annotations.values()] == ["The End", "no.", "4"]
    assert train.image_path(7) == folder / "posters" / "b.png"
    assert train.image_path(5) is None and train.missing_images == (5,)
    assert open_dataset(folder).split("test").annotations is None
    assert len(open_dataset(folder).split("train", limit=2).questions) == 2
    assert open_dataset(folder).splits == ("train", "test")


def test_labels_are_never_normalised_and_scored_letter_for_letter(folder: Path, tmp_path: Path) -> None:
    train = open_dataset(folder).split("train")
    assert train.annotations is not None
    vocab = AnswerVocab.build(train.annotations.values())
    assert set(vocab.answers) == {"The End", "no.", "4"} and vocab.coverage == 1
    assert "items whose label" in vocab.definition
    assert vocab.soft_target(train.annotations[7]) == {vocab.index("The End"): 1.0}
    write_results(tmp_path / "results.json", {7: "The End", 3: "no", 5: "4"}, train)
    scores = score_predictions(read_results(tmp_path / "results.json"), train, protocol="thesis")
    assert (scores.overall, scores.protocol) == (66.67, "exact")
    assert scores.per_question == {7: 100.0, 3: 0.0, 5: 100.0}


def test_info_counts_labels(folder: Path) -> None:
    info = describe(open_dataset(folder)).splits["train"]
    assert (info.questions, info.images, info.images_missing, info.answers, info.coverage) == (3, 2, 1, 3, 100.0)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["{"], "line 1"),
        (["[]"], "JSON object is expected"),
        ([{"text": "a"}], "id is missing"),
        ([{"id": "a"}], "number the items"),
        ([{"id": 1}, {"id": 2}, {"id": 1}], r"id 1 comes twice \(lines 1 and 3\)"),
        ([{"id": 1, "text": 5}], "text is"),
        ([{"id": 1, "image": ""}], "image is"),
        ([{"id": 1, "label": True}], "label is"),
        ([{"id": 1, "label": "a"}, {"id": 2}], "1 of 2 items have no label"),
        ([], "holds no items"),
    ],
)
def test_what_is_wrong_is_named_by_line(tmp_path: Path, items: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_items(write(tmp_path / "films", items))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "items_train.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="can't be read"):
        read_items(path)


def test_items_are_not_divided_by_data_split(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="divide its lines"):
        divide_split(open_dataset(folder), split="train", fraction=0.5, out=tmp_path / "out")
