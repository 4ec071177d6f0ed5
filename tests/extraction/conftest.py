"""What tests of stage one share: a data folder of any image files, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

MakeData = Callable[[Mapping[str, bytes]], Path]


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """A function that writes files as images 1, 2, ... of a train split, one question each, and names the folder.

    All are called .jpg, whatever they hold; `b"missing"` is asked about, but not written.
    """

    def make(files: Mapping[str, bytes]) -> Path:
        folder = tmp_path / "data"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        questions = []
        for number, (name, content) in enumerate(files.items(), 1):
            questions.append({"question_id": 10 * number, "image_id": number, "question": f"what is in {name}?"})
            if content != b"missing":
                (folder / "images" / f"image_{number:06d}.jpg").write_bytes(content)
        (folder / "questions_train.json").write_text(json.dumps({"questions": questions}))
        (folder / "annotations_train.json").write_text(json.dumps({"annotations": []}))
        return folder

    return make
