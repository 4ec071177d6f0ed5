"""benchmarks/scale.py: its data folder, what it calls pace, and how it looks at a process."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from umecache.data.dataset import open_dataset

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


@pytest.fixture
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_scale", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_file_of_its_own_shows_the_same_picture(bench: ModuleType) -> None:
    first, second = (bench.own(jpeg(0), number) for number in (1, 123_456))
    assert len({first, second, jpeg(0)}) == 3
    shown = [np.asarray(Image.open(io.BytesIO(data))) for data in (first, second, jpeg(0))]
    assert all(np.array_equal(shown[0], other) for other in shown)


def test_data_folder(bench: ModuleType, tmp_path: Path) -> None:
    images, text = tmp_path / "images", tmp_path / "text"
    images.mkdir()
    text.mkdir()
    for number in range(3):
        (images / f"{number}.jpg").write_bytes(jpeg(number))
    questions = [{"question_id": 10 + i, "image_id": 1, "question": f"what is {i}?"} for i in range(7)]
    answers = [{"answer": "yes", "answer_id": i + 1, "answer_confidence": "yes"} for i in range(10)]
    labels = [
        {
            "question_id": each["question_id"],
            "image_id": 1,
            "answers": answers,
            "multiple_choice_answer": "yes",
            "question_type": "what is",
            "answer_type": "yes/no",
        }
        for each in questions
    ]
    for name, content in (("questions", {"questions": questions}), ("annotations", {"annotations": labels})):
        (text / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    bench.make_data(tmp_path / "data", images, text, 0.0001)
    dataset = open_dataset(tmp_path / "data")
    train, val = dataset.split("train"), dataset.split("val")
    assert (len(train.questions), len(val.questions)) == (44, 21)
    assert (len(train.image_ids), len(val.image_ids)) == (8, 4)
    assert not set(train.image_ids) & set(val.image_ids)
    assert len({question.text for question in train.questions}) == 44
    files = [train.image_path(image_id) for image_id in train.image_ids]
    assert len({path.read_bytes() for path in files if path is not None}) == 8


def test_pace(bench: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    clock = 1000.0
    for number in range(12):  # ten steps of one second but for the last two, of two; then the short last shard's
        (folder / f"{number:06}.json").touch()
        os.utime(folder / f"{number:06}.json", (clock, clock))
        clock += 2 if number >= 8 else 1
    early, *_, late = bench.pace(tmp_path, 1)
    assert late == pytest.approx(2 * early, rel=0.01)


def test_run_reads_the_document_and_the_memory(bench: ModuleType) -> None:
    document, memory = bench.run("methods")
    assert {"concat", "ume"} <= {method["name"] for method in document["methods"]}
    assert 0 < memory["anonymous"] <= memory["resident"]
