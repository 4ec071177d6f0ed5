"""`umecache fuse` as a user types it, on a tiny world of real stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umecache.cli.app import run
from umecache.training.runs import load_run

QUICK = ["--epochs", "1", "--width", "8", "--batch-size", "16", "--devices", "cpu"]


def fuse(*argv: str) -> int:
    return run(["fuse", *argv])


def test_json_is_the_one_thing_on_standard_output(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse(*tiny, *QUICK, "--method", "ume", "--seeds", "2", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert {"run", "method", "accuracy", "seeds", "results"} <= set(document)
    assert [seed["seed"] for seed in document["seeds"]] == [0, 1]
    assert set(document["seeds"][0]) >= {"seed", "overall", "epochs"}
    results = json.loads(Path(document["results"]).read_text())
    assert [record["question_id"] for record in results] == [100, 101, 102, 103, 104, 105]
    assert "features:" in captured.err


def test_words(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert fuse(*tiny, *QUICK, "--out", str(out)) == 0
    shown = capsys.readouterr().out
    assert "ume" in shown and "accuracy" in shown and "yes/no" in shown and str(out) in shown
    assert (out / "run.json").is_file()


def test_every_option_reaches_the_run(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = """--method evc --method-arg pairs=cross --text bert --image vit --train-split train --eval-split val
        --seeds 0,7 --label-limit 9 --stack-seeds --shuffle-images --order window --window 4
        --order-seed 3 --epochs 2 --lr 2e-4 --schedule constant --warmup 0.2 --optimizer adam
        --weight-decay 0.02 --clip 0.5 --batch-size 5 --classes 2 --min-count 2 --loss soft --width 4 --dropout 0.2
        --accumulate 2 --ema 0.9 --precision bf16
        --patience 2 --holdout 0.4 --limit 10 --protocol thesis --devices cpu --threads 1 --residency store"""
    assert fuse(*tiny, *said.split(), "--checkpoint-minutes", "2", "--out", str(tmp_path / "run"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    asked = json.loads((Path(document["run"]) / "run.json").read_text())["asked"]
    assert asked == {
        "data": tiny[1], "features": {}, "facts": {}, "train_split": "train", "eval_split": "val", "limit": 10,
        "init": None, "label_limit": 9, "stack_seeds": True, "shuffle_images": True, "order": "window",
        "window": 4, "order_seed": 3, "seeds": [0, 7], "classes": 2, "min_count": 2, "loss": "soft",
        "optimizer": "adam", "weight_decay": 0.02, "schedule": "constant", "warmup": 0.2, "clip": 0.5,
        "batch_size": 5, "epochs": 2, "accumulate": 2, "ema": 0.9, "precision": "bfloat16",
        "holdout": 0.4, "patience": 2, "width": 4, "dropout": 0.2, "protocol": "thesis", "residency": "store",
        "device": "cpu", "threads": 1, "checkpoint_minutes": 2.0, "tracker": None, "out": str(tmp_path / "run"),
        "overwrite": False, "text": "bert",
        "image": "vit", "method": "evc", "method_args": {"pairs": "cross"}, "lr": 2e-4,
    }  # fmt: skip


def test_features_by_name(tiny: list[str], private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = private_home / "stores" / "tiny"
    said = [f"--features=text={stores / 'bert-00000000'}", f"--features=image={stores / 'vit-00000000'}"]
    assert fuse(*tiny, *QUICK, *said, "--json") == 0
    named = json.loads(capsys.readouterr().out)
    assert fuse(*tiny, *QUICK, "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == named["accuracy"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--method", "umee"], "Did you mean 'ume'"),
        (["--method", "ume", "--method-arg", "pair=cross"], "pairs"),
        (["--seeds", "none"], "--seeds 0,1,7"),
        (["--lr", "fast"], "1e-3"),
        (["--lr", "auto"], "auto is compare's"),
        (["--tracker", "mlflow"], "tensorboard, wandb"),
        (["--text", "roberta"], "umecache extract --model roberta"),
        (["--recipe", "thesis-c"], "thesis-a"),
        (["--loss", "mse"], "ce, soft"),
        (["--eval-split", "test"], "test"),
        (["--features", "audio"], "KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    tiny: list[str], said: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuse(*tiny, *QUICK, *said) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and words in line


def test_mistakes_as_json(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fuse(*tiny, "--method", "umee", "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"what", "why", "next"} and "umee" in error["what"]


def test_a_taken_out_is_refused_unless_overwritten(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [*tiny, *QUICK, "--out", str(tmp_path / "run")]
    assert fuse(*said) == 0
    assert fuse(*said) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert fuse(*said, "--overwrite") == 0


def test_several_rates_are_rows_of_one_run(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = [*tiny, *QUICK, "--method", "concat", "--seeds", "2", "--lr", "1e-2,1e-3"]
    assert fuse(*said, "--out", str(tmp_path / "sweep"), "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["lr"] for row in rows] == [1e-3, 1e-2]
    assert (
        fuse(*tiny, *QUICK, "--method", "concat", "--seeds", "2", "--lr", "1e-2", "--out", str(tmp_path / "one")) == 0
    )
    for seed in ("seed-0", "seed-1"):
        swept, alone = (tmp_path / name / seed / "model.safetensors" for name in ("sweep/lr-0.01", "one"))
        assert swept.read_bytes() == alone.read_bytes()
    capsys.readouterr()
    assert fuse(*said, "--out", str(tmp_path / "sweep"), "--overwrite") == 0
    assert "0.001" in capsys.readouterr().out
    assert run(["predict", str(tmp_path / "sweep"), "--question", "what?", "--devices", "cpu"]) == 2
    assert "lr-0.001, lr-0.01" in capsys.readouterr().err


def test_a_method_of_ones_own(
    tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained from a file, saved, and loaded again from anywhere."""
    (tmp_path / "mine.py").write_text(
        "from umecache.fusion.concat import Concat\n"
        "class Mine(Concat):\n"
        "    def __init__(self, dims, *, width=256, dropout=0.0, times=1.0):\n"
        "        super().__init__(dims, width=width, dropout=dropout)\n"
        "        self.times = times\n"
        "    def forward(self, features):\n"
        "        return self.times * super().forward(features)\n"
    )
    monkeypatch.chdir(tmp_path)
    said = ["--method", "./mine.py:Mine", "--method-arg", "times=2.0", "--out", str(tmp_path / "run")]
    assert fuse(*tiny, *QUICK, *said, "--json") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fusion = load_run(json.loads(capsys.readouterr().out)["run"]).model.fusion
    assert (type(fusion).__name__, fusion.times) == ("Mine", 2.0)
