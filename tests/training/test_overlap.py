"""Shared questions are refused and shared inputs are told, by what they are and not by their numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from umecache.data.dataset import Split, open_dataset
from umecache.errors import DataError
from umecache.training.overlap import refuse_shared_questions, shared_inputs


def items(folder: Path, **splits: Sequence[dict[str, Any]]) -> tuple[Split, Split]:
    for name, told in splits.items():
        lines = [json.dumps({"label": "x", **item}) for item in told]
        (folder / f"items_{name}.jsonl").write_text("\n".join(lines) + "\n")
    data = open_dataset(folder)
    return data.split("train"), data.split("val")


def vqa(folder: Path, **splits: Sequence[tuple[int, int, str]]) -> tuple[Split, Split]:
    for name, told in splits.items():
        records = [{"question_id": n, "image_id": image, "question": text} for n, image, text in told]
        (folder / f"questions_{name}.json").write_text(json.dumps({"questions": records}))
    (folder / "images").mkdir()
    data = open_dataset(folder)
    return data.split("train"), data.split("val")


def test_items_of_equal_numbers_and_other_files_share_nothing(tmp_path: Path) -> None:
    train, val = items(tmp_path, train=[{"id": 1, "image": "a.png"}], val=[{"id": 1, "image": "b.png"}])
    refuse_shared_questions(train, val)
    assert shared_inputs(train, val) == ()


def test_an_item_in_both_splits_is_refused(tmp_path: Path) -> None:
    told = [{"id": 4, "image": "a.png", "text": "How many?"}]
    train, val = items(tmp_path, train=told, val=[{"id": 4, "image": "./a.png", "text": "how  many?"}])
    with pytest.raises(DataError, match=r"1 questions of 'val' are in 'train' too \(first: 4\)"):
        refuse_shared_questions(train, val)


def test_items_under_other_numbers_are_told(tmp_path: Path) -> None:
    train, val = items(
        tmp_path,
        train=[{"id": 1, "image": "a.png", "audio": "a.wav", "text": "x"}, {"id": 2, "text": "only words"}],
        val=[{"id": 7, "image": "a.png", "audio": "a.wav", "text": "x"}, {"id": 8, "text": "other words"}],
    )
    refuse_shared_questions(train, val)
    (told,) = shared_inputs(train, val)
    assert told.startswith("train and val share 1 image files, and 1 sound files, and 1 questions that are in both")


def test_vqa_images_are_known_by_their_ids(tmp_path: Path) -> None:
    train, val = vqa(tmp_path, train=[(1, 5, "Is it red?"), (2, 6, "Why?")], val=[(1, 9, "Is it red?"), (3, 6, "How?")])
    refuse_shared_questions(train, val)
    assert shared_inputs(train, val) == ("train and val share 1 image ids: accuracy may flatter every method.",)


def test_a_vqa_question_under_another_id_is_told_and_under_its_own_refused(tmp_path: Path) -> None:
    train, val = vqa(
        tmp_path, train=[(1, 5, "Is it red?"), (2, 5, "Why?")], val=[(3, 5, "is it  red?"), (2, 5, "Why?")]
    )
    (told,) = shared_inputs(train, val)
    assert "1 image ids, and 2 questions that are in both" in told
    with pytest.raises(DataError, match="first: 2"):
        refuse_shared_questions(train, val)
