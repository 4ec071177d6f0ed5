"""Labelled items from files to answers, and three modalities of which all are needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.cli.app import run
from umecache.data.dataset import open_dataset
from umecache.stores import open_writer

QUICK = ["--devices", "cpu", "--json"]


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert run(list(argv)) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in sample as labelled items: is the picture's question about a count, with a label in capitals."""
    from umecache.data.sample import write_sample

    folder = tmp_path_factory.mktemp("items") / "shapes"
    write_sample(folder, images=100)
    data = open_dataset(folder)
    for name in ("train", "val"):
        split = data.split(name, limit=120)
        with (folder / f"items_{name}.jsonl").open("w") as file:
            for question in split.questions:
                image = split.image_path(question.image_id)
                assert image is not None
                label = "COUNT" if question.text.lower().startswith("how many") else "Other."
                item = {
                    "id": question.id,
                    "text": question.text,
                    "image": str(image.relative_to(folder)),
                    "label": label,
                }
                file.write(json.dumps(item) + "\n")
        (folder / f"questions_{name}.json").unlink()
        (folder / f"annotations_{name}.json").unlink()
    return folder


def test_from_extract_to_predict(items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = ["--data", str(items)], tmp_path / "run"
    stores = document(capsys, "extract", *data, "-m", "sample-text", "-m", "sample-image", *QUICK)["stores"]
    assert [store["failed"] for store in stores] == [0, 0, 0, 0]
    options = ["--method", "concat", "--width", "16", "--epochs", "8", "--lr", "1e-2", "--out", str(out)]
    done = document(capsys, "fuse", *data, *options, *QUICK)
    assert done["accuracy"]["overall"] > 95  # the words say it
    assert done["protocol"] == "exact" and set(done["accuracy"]["per_answer_type"]) == {"labelled"}
    scored = document(capsys, "score", done["results"], *data, "--json")
    assert scored["overall"] == done["accuracy"]["overall"] and scored["protocol"] == "exact"
    answers = {entry["question_id"]: entry["answer"] for entry in json.loads(Path(done["results"]).read_text())}
    one = next(json.loads(line) for line in (items / "items_val.jsonl").read_text().splitlines() if "COUNT" in line)
    said = ["--image", str(items / one["image"]), "--question", one["text"]]
    (entry,) = document(capsys, "predict", str(out), *said, *QUICK)["answers"]
    assert entry["answer"] == answers[one["id"]]
    compared = document(
        capsys, "compare", *data, "--methods", "image-only,product", "--seeds", "0,", "--epochs", "1", "--width", "8",
        "--out", str(tmp_path / "comparison"), *QUICK,
    )  # fmt: skip
    assert compared["protocol"] == "exact" and not any("not comparable" in note for note in compared["notes"])


def test_an_image_alone_is_answered(items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "image"
    document(capsys, "extract", "--data", str(items), "-m", "sample-image", "--store", str(store), *QUICK)
    options = ["--method", "image-only", "--width", "8", "--epochs", "1", "--features", f"image={store}"]
    done = document(capsys, "fuse", "--data", str(items), *options, "--out", str(tmp_path / "run"), *QUICK)
    image = next((items / "images").glob("*val*"))
    (answer,) = document(capsys, "predict", done["run"], "--image", str(image), *QUICK)["answers"]
    assert answer["question"] is None and answer["answer"] in ("COUNT", "Other.")


def made_store(path: Path, modality: str, kinds: dict[int, int]) -> None:
    """Two tokens per item that tell its kind, 0 or 1."""
    rng = np.random.default_rng(len(modality))
    digests = [hashlib.sha256(f"{modality} {key}".encode()).hexdigest() for key in kinds]
    facts = {"model": f"toy-{modality}", "modality": modality, "recipe": {"toy": modality}}
    writer = open_writer(path, manifest=facts, ids=list(kinds), digests=digests, lengths=[2] * len(kinds), dim=6)
    keys = list(kinds)
    for shard in writer.claim():
        with shard:
            for position in shard.records:
                tokens = rng.normal(0, 0.3, (2, 6))
                tokens[:, kinds[keys[position]]] += 2.0
                shard.write(position, tokens.astype(np.float32))
    writer.seal()


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items whose label is odd or even in the sum of three kinds, one told by each modality."""
    folder = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(0)
    for name, first, count in (("train", 0, 240), ("val", 1000, 80)):
        kinds = {modality: {first + n: int(rng.integers(2)) for n in range(count)} for modality in ("a", "b", "audio")}
        with (folder / f"items_{name}.jsonl").open("w") as file:
            for key in range(first, first + count):
                label = "odd" if sum(kind[key] for kind in kinds.values()) % 2 else "even"
                file.write(json.dumps({"id": key, "label": label}) + "\n")
        for modality, kind in kinds.items():
            made_store(folder / "stores" / modality / name, modality, kind)
    return folder


def test_three_modalities_are_all_needed(parity: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def accuracy(*names: str) -> float:
        features = [f"--features={name}={parity / 'stores' / name}" for name in names]
        options = ["--methods", "product", "--seeds", "0,", "--epochs", "15", "--width", "32", "--lr", "1e-2"]
        said = ["--data", str(parity), *features, *options, "--out", str(tmp_path / "-".join(names))]
        (row,) = document(capsys, "compare", *said, *QUICK)["rows"]
        assert set(row["features"]) == set(names)
        return float(row["mean"])

    assert accuracy("a", "b", "audio") > 90
    assert max(accuracy("a", "b"), accuracy("b", "audio")) < 70
