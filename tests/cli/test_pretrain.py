"""`umecache pretrain` as a user types it, and `fuse --init` after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umecache.cli.app import run

QUICK = ["--epochs", "2", "--width", "8", "--devices", "cpu"]


def test_pretrain_then_fuse_and_compare(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "pretrained")
    assert run(["pretrain", *tiny, *QUICK, "--method", "concat", "--out", out, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"run", "method", "last", "exchanged", "questions"} <= set(document) and document["run"] == out
    start = ["--init", out, "--label-limit", "8"]
    assert run(["fuse", *tiny, *QUICK, "--method", "concat", *start, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert json.loads((Path(done["run"]) / "run.json").read_text())["init"]["run"] == out
    assert run(["compare", *tiny, *QUICK, "--methods", "text-only,concat", "--seeds", "0,", *start, "--json"]) == 0
    notes = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "The fusion of concat started from" in notes and "8 of 12 questions" in notes
    assert run(["fuse", *tiny, *QUICK, "--method", "product", *start]) == 2
    assert "umecache pretrain --method product" in capsys.readouterr().err


def test_words(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = """--method evc --method-arg pairs=cross --text bert --image vit --train-split train --objectives match
        --mask-share 0.2 --seed 3 --order window --order-seed 1 --lr 2e-4 --schedule constant --warmup 0.2
        --optimizer adam --weight-decay 0.02 --clip 0.5 --batch-size 5 --precision bf16 --dropout 0.2 --holdout 0.3
        --limit 10 --threads 1 --residency store --checkpoint-minutes 2"""
    out = tmp_path / "run"
    assert run(["pretrain", *tiny, *QUICK, *said.split(), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "pairs told apart" in shown and "hidden tokens" not in shown and "fuse --method evc --init" in shown
    asked = json.loads((out / "run.json").read_text())["asked"]
    expected = {
        "method": "evc", "method_args": {"pairs": "cross"}, "text": "bert", "image": "vit", "train_split": "train",
        "objectives": ["match"], "mask_share": 0.2, "seeds": [3], "order": "window", "order_seed": 1, "lr": 2e-4,
        "schedule": "constant", "warmup": 0.2, "optimizer": "adam", "weight_decay": 0.02, "clip": 0.5, "batch_size": 5,
        "precision": "bfloat16", "dropout": 0.2, "holdout": 0.3, "limit": 10, "threads": 1, "residency": "store",
        "checkpoint_minutes": 2.0, "width": 8, "epochs": 2,
    }  # fmt: skip
    assert {name: asked[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--method", "text-only"], "needs two modalities"),
        (["--objectives", "words"], "match, mask"),
        (["--method", "umee"], "Did you mean 'ume'"),
    ],
)
def test_mistakes_are_told_in_words(
    tiny: list[str], capsys: pytest.CaptureFixture[str], said: list[str], words: str
) -> None:
    assert run(["pretrain", *tiny, *QUICK, *said]) == 2
    assert words in capsys.readouterr().err
