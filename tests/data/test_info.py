"""What `data info` counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umecache.data.dataset import open_dataset
from umecache.data.info import describe

WriteFolder = Callable[..., Path]


def annotated(answers: list[str], first: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    questions = [{"question_id": first + n, "image_id": first + n, "question": "?"} for n in range(len(answers))]
    annotations = [
        {"question_id": q["question_id"], "multiple_choice_answer": text, "answers": [{"answer": text}] * 10}
        for q, text in zip(questions, answers, strict=True)
    ]
    return questions, annotations


def test_counts_and_coverage(write_folder: WriteFolder) -> None:
    folder = write_folder(
        train=annotated(["yes"] * 6 + ["no"] * 3 + ["cat"], 1),
        val=annotated(["Yes", "no", "cat", "dog"], 1000),
        test=(annotated(["x"] * 3, 2000)[0], None),
    )
    (folder / "images" / "TOY_val_000000001001.jpg").unlink()
    info = describe(open_dataset(folder), classes=2)
    assert info.to_json() == {
        "name": "toy",
        "folder": str(folder),
        "splits": {
            "train": {"questions": 10, "images": 10, "images_missing": 0, "answers": 100, "coverage": 90.0},
            "val": {"questions": 4, "images": 4, "images_missing": 1, "answers": 40, "coverage": 50.0},
            "test": {"questions": 3, "images": 3, "images_missing": 0, "answers": 0, "coverage": None},
        },
        "classes": 2,
        "coverage_definition": "percent of a split's questions whose normalised most common answer is one of the 2 "
        "most frequent of train",
    }


def test_vocabulary_bounds(write_folder: WriteFolder) -> None:
    folder = write_folder(train=annotated(["yes"] * 6 + ["no"] * 3 + ["cat"], 1))
    data = open_dataset(folder)
    assert describe(data).splits["train"].coverage == 100.0
    assert describe(data, classes=None, min_count=3).splits["train"].coverage == 90.0
    assert describe(data, classes=None, min_count=3).classes == 2


def test_without_train_and_without_annotations(write_folder: WriteFolder) -> None:
    found = describe(open_dataset(write_folder("a", val=annotated(["yes", "no"], 1), other=annotated(["yes"], 9))))
    assert found.definition.endswith("most frequent of val")
    assert {name: one.coverage for name, one in found.splits.items()} == {"val": 100.0, "other": 100.0}
    found = describe(open_dataset(write_folder("b", test=(annotated(["yes"], 1)[0], None))))
    assert (found.classes, found.definition, found.splits["test"].coverage) == (0, "", None)


@pytest.mark.shared
def test_real_data(shared: Path) -> None:
    splits = describe(open_dataset(shared / "data" / "vqa-v2-mini")).splits
    assert (splits["train"].questions, splits["train"].answers, splits["val"].answers) == (2219, 22190, 5420)
    assert splits["train"].coverage == 100.0 and splits["train"].images_missing == 0
