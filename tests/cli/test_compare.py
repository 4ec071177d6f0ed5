"""`umecache compare` as a user types it, on a tiny world of real stores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.cli.app import run
from umecache.stores import open_writer

QUICK = ["--epochs", "1", "--width", "8", "--batch-size", "16", "--devices", "cpu"]


def write_store(path: Path, modality: str, ids: list[int], dim: int, digests: list[str]) -> None:
    """Two random tokens per record."""
    recipe = {"weights_sha256": "0" * 64, "modality": modality}
    facts = {"model": {"text": "bert", "image": "vit"}[modality], "modality": modality, "recipe": recipe}
    rng = np.random.default_rng(0)
    writer = open_writer(path, manifest=facts, ids=ids, digests=digests, lengths=[2] * len(ids), dim=dim)
    for shard in writer.claim():
        with shard:
            for position in shard.records:
                shard.write(position, rng.normal(size=(2, dim)).astype(np.float32))
    writer.seal()


@pytest.fixture
def options(tmp_path: Path, private_home: Path) -> list[str]:
    """A data folder of 12 train and 6 val questions, its stores under home; the options that name the data."""
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


def compare(*argv: str) -> int:
    return run(["compare", *argv])


METHODS = ["--methods", "text-only,concat,ume"]


def test_json_is_the_one_thing_on_standard_output(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(*options, *QUICK, *METHODS, "--seeds", "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {"rows", "bytes_read", "report"} <= set(document)
    assert [row["method"] for row in document["rows"]] == ["text-only", "concat", "ume"]
    for row in document["rows"]:
        assert {"method", "text", "image", "mean", "std", "seeds"} <= set(row)
        assert (row["text"], row["image"]) == ("bert", "vit")
        assert [set(seed) >= {"seed", "overall", "epochs"} for seed in row["seeds"]] == [True, True]
    assert Path(document["report"]).is_file()


def test_words(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert compare(*options, *QUICK, *METHODS, "--seeds", "0,", "--out", str(tmp_path / "c")) == 0
    shown = capsys.readouterr().out
    for words in ("text-only", "concat", "ume", "±", "yes/no", "Without training", "order seed", "report.md"):
        assert words in shown


def test_rates_are_chosen_on_a_held_out_part(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = ["--lr", "auto", "--lr-grid", "1e-4,1e-2", "--holdout", "0.3", "--seeds", "0,"]
    assert compare(*options, *QUICK, *METHODS, *said, "--json") == 0
    captured = capsys.readouterr()
    for row in json.loads(captured.out)["rows"]:
        assert row["lr"] in (1e-4, 1e-2) and set(row["lr_tried"]) == {"0.0001", "0.01"}
    assert "rate of concat" in captured.err


def test_defaults_are_all_methods_and_three_seeds(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(*options, *QUICK, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    expected = ["text-only", "image-only", "concat", "product", "attention", "evc", "ume", "ume-res"]
    assert [row["method"] for row in rows] == expected
    assert {len(row["seeds"]) for row in rows} == {3}


def test_a_recipe_with_flags_over_it(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = ["--recipe", "thesis-a", "--text", "bert", "--image", "vit", "--lr", "1e-3", "--seeds", "1"]
    assert compare(*options, *QUICK, *said, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in document["rows"]] == ["concat", "product", "attention", "evc", "ume"]
    assert document["recipe"]["name"] == "thesis-a"
    assert (document["asked"]["optimizer"], document["asked"]["epochs"], document["asked"]["lr"]) == ("adam", 1, 1e-3)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--methods", "ume,mean"], "umecache methods"),
        (["--methods", "ume,ume"], "different methods"),
        (["--methods", ","], "--methods"),
        (["--lr-grid", "fast"], "--lr-grid"),
        (["--image", "beit"], "umecache extract --model beit"),
        (["--method-arg", "depth=3"], "none of"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    options: list[str], said: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(*options, *QUICK, *said) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and words in line
