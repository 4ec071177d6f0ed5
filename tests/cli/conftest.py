"""What tests of commands share: a tiny data folder and its stores, as a user would have them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.stores import open_writer


def write_store(path: Path, modality: str, ids: list[int], dim: int, digests: list[str]) -> None:
    """Two random tokens per record."""
    recipe: dict[str, Any] = {"weights_sha256": "0" * 64, "modality": modality}
    if modality == "image":
        recipe["image_size"] = 384  # as the thesis' recipes ask
    facts = {"model": {"text": "bert", "image": "vit"}[modality], "modality": modality, "recipe": recipe}
    rng = np.random.default_rng(0)
    writer = open_writer(path, manifest=facts, ids=ids, digests=digests, lengths=[2] * len(ids), dim=dim)
    for shard in writer.claim():
        with shard:
            for position in shard.records:
                shard.write(position, rng.normal(size=(2, dim)).astype(np.float32))
    writer.seal()


@pytest.fixture
def tiny(tmp_path: Path, private_home: Path) -> list[str]:
    """A data folder of 12 train and 6 val questions, its stores under home; the options that name it."""
    data = tmp_path / "tiny"
    (data / "images").mkdir(parents=True)
    stores = private_home / "stores" / "tiny"
    for split, start in (("train", 0), ("val", 100)):
        records: list[dict[str, Any]] = [
            {"question_id": start + n, "image_id": start + n // 2, "question": f"what is {n}?"}
            for n in range(12 if split == "train" else 6)
        ]
        annotations = [
            {
                "question_id": record["question_id"],
                "image_id": record["image_id"],
                "answers": [{"answer": "yes" if record["question_id"] % 2 else "no"}] * 10,
                "multiple_choice_answer": "yes" if record["question_id"] % 2 else "no",
                "answer_type": "yes/no",
                "question_type": "what is",
            }
            for record in records
        ]
        (data / f"questions_{split}.json").write_text(json.dumps({"questions": records}))
        (data / f"annotations_{split}.json").write_text(json.dumps({"annotations": annotations}))
        texts = [hashlib.sha256(record["question"].encode()).hexdigest() for record in records]
        write_store(stores / "bert-00000000" / split, "text", [r["question_id"] for r in records], 4, texts)
        images = sorted({record["image_id"] for record in records})
        told = [hashlib.sha256(str(image).encode()).hexdigest() for image in images]
        write_store(stores / "vit-00000000" / split, "image", images, 6, told)
    return ["--data", str(data)]
