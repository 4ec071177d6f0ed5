"""`umecache fuse` as a user types it, on a tiny world of real stores."""

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


def fuse(*argv: str) -> int:
    return run(["fuse", *argv])


def test_json_is_the_one_thing_on_standard_output(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse(*options, *QUICK, "--method", "ume", "--seeds", "2", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert {"run", "method", "accuracy", "seeds", "results"} <= set(document)
    assert [seed["seed"] for seed in document["seeds"]] == [0, 1]
    assert set(document["seeds"][0]) >= {"seed", "overall", "epochs"}
    results = json.loads(Path(document["results"]).read_text())
    assert [record["question_id"] for record in results] == [100, 101, 102, 103, 104, 105]
    assert "features:" in captured.err


def test_words(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert fuse(*options, *QUICK, "--out", str(out)) == 0
    shown = capsys.readouterr().out
    assert "ume" in shown and "accuracy" in shown and "yes/no" in shown and str(out) in shown
    assert (out / "run.json").is_file()


def test_every_option_reaches_the_run(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = """--method evc --method-arg pairs=cross --text bert --image vit --train-split train --eval-split val
        --seeds 0,7 --order-seed 3 --epochs 2 --lr 2e-4 --schedule constant --warmup 0.2 --optimizer adam
        --weight-decay 0.02 --clip 0.5 --batch-size 5 --classes 2 --min-count 2 --loss soft --width 4 --dropout 0.2
        --patience 2 --holdout 0.4 --limit 10 --protocol thesis --devices cpu --threads 1 --residency store"""
    assert fuse(*options, *said.split(), "--out", str(tmp_path / "run"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    asked = json.loads((Path(document["run"]) / "run.json").read_text())["asked"]
    assert asked == {
        "data": options[1], "features": {}, "train_split": "train", "eval_split": "val", "limit": 10,
        "order_seed": 3, "seeds": [0, 7], "classes": 2, "min_count": 2, "loss": "soft", "optimizer": "adam",
        "weight_decay": 0.02, "schedule": "constant", "warmup": 0.2, "clip": 0.5, "batch_size": 5, "epochs": 2,
        "holdout": 0.4, "patience": 2, "width": 4, "dropout": 0.2, "protocol": "thesis", "residency": "store",
        "device": "cpu", "threads": 1, "out": str(tmp_path / "run"), "overwrite": False, "text": "bert",
        "image": "vit", "method": "evc", "method_args": {"pairs": "cross"}, "lr": 2e-4,
    }  # fmt: skip


def test_features_by_name(options: list[str], private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = private_home / "stores" / "tiny"
    said = [f"--features=text={stores / 'bert-00000000'}", f"--features=image={stores / 'vit-00000000'}"]
    assert fuse(*options, *QUICK, *said, "--json") == 0
    named = json.loads(capsys.readouterr().out)
    assert fuse(*options, *QUICK, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == named["accuracy"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--method", "umee"], "Did you mean 'ume'"),
        (["--method", "ume", "--method-arg", "pair=cross"], "pairs"),
        (["--seeds", "none"], "--seeds 0,1,7"),
        (["--lr", "fast"], "1e-3"),
        (["--lr", "auto"], "auto is compare's"),
        (["--text", "roberta"], "umecache extract --model roberta"),
        (["--recipe", "thesis-c"], "thesis-a"),
        (["--loss", "mse"], "ce, soft"),
        (["--eval-split", "test"], "test"),
        (["--features", "audio"], "KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    options: list[str], said: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuse(*options, *QUICK, *said) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and words in line


def test_mistakes_as_json(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse(*options, "--method", "umee", "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"what", "why", "next"} and "umee" in error["what"]


def test_a_taken_out_is_refused_unless_overwritten(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [*options, *QUICK, "--out", str(tmp_path / "run")]
    assert fuse(*said) == 0
    assert fuse(*said) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert fuse(*said, "--overwrite") == 0
