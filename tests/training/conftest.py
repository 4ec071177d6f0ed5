"""A small world whose answers need both modalities: real data folders and real stores of random features.

Every question has a kind (told by its text tokens) and every image a kind (told by its image tokens); the answer is
(question kind + image kind) mod 3. So neither modality alone does better than chance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from umecache.stores import open_writer

KINDS = 3
ANSWERS = ("red", "green", "blue")
WORDS = ("which", "what", "name")
TEXT_DIM, IMAGE_DIM = 8, 12


@dataclass(frozen=True)
class World:
    """A data folder and its two store folders."""

    data: Path
    text: Path
    image: Path
    splits: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)


def text_of(kind: int, image: int) -> str:
    """Wordings repeat across images, as they do in VQA."""
    return f"{WORDS[kind]} colour {image % 4}"


def question_tokens(text: str) -> np.ndarray[Any, Any]:
    """[T, 8]: the same for the same words, as a frozen encoder's are."""
    rng = np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16))
    kind = WORDS.index(text.split()[0])
    tokens = rng.normal(0, 0.3, (2 + len(text) % 3, TEXT_DIM))
    tokens[:, kind] += 2.0
    return tokens.astype(np.float32)


def image_tokens(image_id: int, tokens: int = 4) -> np.ndarray[Any, Any]:
    """[4, 12]."""
    hidden = np.random.default_rng(image_id).normal(0, 0.3, (tokens, IMAGE_DIM))
    hidden[:, image_id % KINDS] += 2.0
    return hidden.astype(np.float32)


def write_split(folder: Path, name: str, images: Sequence[int], *, annotate: bool = True) -> list[dict[str, Any]]:
    """Three questions about each image, one of each kind, in shuffled order."""
    records = [
        {"question_id": image * 10 + kind, "image_id": image, "question": text_of(kind, image)}
        for image in images
        for kind in range(KINDS)
    ]
    np.random.default_rng(7).shuffle(records)  # type: ignore[arg-type]
    (folder / f"questions_{name}.json").write_text(json.dumps({"questions": records}))
    if annotate:
        annotations = []
        for record in records:
            answer = ANSWERS[(record["question_id"] % 10 + record["image_id"]) % KINDS]
            annotations.append(
                {
                    "question_id": record["question_id"],
                    "image_id": record["image_id"],
                    "answers": [{"answer": answer, "answer_id": n + 1} for n in range(10)],
                    "multiple_choice_answer": answer,
                    "question_type": WORDS[record["question_id"] % 10],
                    "answer_type": "number" if answer == "red" else "other",
                }
            )
        (folder / f"annotations_{name}.json").write_text(json.dumps({"annotations": annotations}))
    return records


def write_store(
    path: Path,
    modality: str,
    items: Mapping[int, np.ndarray[Any, Any] | None],
    *,
    digests: Mapping[int, str] | None = None,
    model: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    format: str = "zarr",
    dtype: str = "float16",
    seal: bool = True,
) -> Path:
    """A store of given records by the real writer; None: an input that could not be read."""
    ids = list(items)
    failures = {place: "no file for this image id" for place, key in enumerate(ids) if items[key] is None}
    lengths = [0 if record is None else len(record) for record in items.values()]
    dim = next(record.shape[1] for record in items.values() if record is not None)
    told = digests or {key: hashlib.sha256(f"{modality} {key}".encode()).hexdigest() for key in ids}
    writer = open_writer(
        path,
        manifest={
            "model": model or {"text": "bert", "image": "vit"}.get(modality, modality),
            "modality": modality,
            "recipe": {"modality": modality, "dtype": dtype, **(recipe or {"weights_sha256": "0" * 64})},
            "origin": {},
            "dataset": dict(dataset or {"name": "world", "split": path.name, "limit": None}),
            "grid": {"height": 2, "width": 2, "prefix": 0} if modality == "image" else None,
        },
        ids=ids,
        digests=[f"missing:{key}" if items[key] is None else told[key] for key in ids],
        lengths=lengths,
        dim=dim,
        format=format,
        dtype=dtype,
        failures=failures,
    )
    for shard in writer.claim():
        with shard:
            for position in shard.records:
                record = items[ids[position]]
                assert record is not None
                shard.write(position, record)
    if seal:
        writer.seal()
    return path


def text_items(records: Sequence[Mapping[str, Any]]) -> dict[int, np.ndarray[Any, Any] | None]:
    """Question id -> tokens."""
    return {record["question_id"]: question_tokens(record["question"]) for record in records}


def text_digests(records: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Question id -> digest of its words, as extraction counts it."""
    return {record["question_id"]: hashlib.sha256(record["question"].encode()).hexdigest() for record in records}


def image_items(
    records: Sequence[Mapping[str, Any]], missing: Sequence[int] = ()
) -> dict[int, np.ndarray[Any, Any] | None]:
    """Image id -> tokens."""
    images = dict.fromkeys(record["image_id"] for record in records)
    return {image: None if image in missing else image_tokens(image) for image in images}


def build_world(
    folder: Path,
    *,
    train: int = 60,
    val: int = 24,
    missing: Sequence[int] = (),
    annotate_val: bool = True,
    format: str = "zarr",
) -> World:
    """Images 1 to `train` are train's, 1001 on are val's."""
    data = folder / "world"
    (data / "images").mkdir(parents=True)
    splits = {
        "train": write_split(data, "train", range(1, train + 1)),
        "val": write_split(data, "val", range(1001, 1001 + val), annotate=annotate_val),
    }
    world = World(data, folder / "stores" / "bert-00000000", folder / "stores" / "vit-00000000", splits)
    for name, records in splits.items():
        write_store(world.text / name, "text", text_items(records), digests=text_digests(records), format=format)
        write_store(world.image / name, "image", image_items(records, missing), format=format)
    return world


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Builders of small worlds, for tests that need their own."""
    return SimpleNamespace(
        world=build_world, store=write_store, text_items=text_items, text_digests=text_digests, image_items=image_items
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The default world; nobody writes into it."""
    return build_world(tmp_path_factory.mktemp("world"))
