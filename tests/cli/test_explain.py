"""`umecache explain` as a user types it, on a run of the built-in sample."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from umecache.cli.app import run


def explain(*argv: str) -> int:
    return run(["explain", *argv, "--devices", "cpu"])


def test_json_and_files(sample_run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--out", str(tmp_path / "x"), "--faithfulness", "2", "--limit", "2", "--json"]
    assert explain(str(sample_run.path), *asked) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "x" / "explain.json").read_text()) == document
    assert [panel["kind"] for panel in document["panels"]] == ["gradcam", "gradcam"]
    for kind in ("png", "svg", "pdf"):
        assert Path(document["pictures"][kind]).stat().st_size > 5000
    with Image.open(document["pictures"]["png"]) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] > 500 and 0.02 < (pixels < 200).mean() < 0.9


def test_words(sample_run: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from umecache.data.dataset import open_dataset

    ids = ",".join(str(question.id) for question in open_dataset(sample_run.data).split("val").questions[:2])
    asked = ["--questions", ids, "--right", "--seed", "1", "--faithfulness", "2", "--out", str(tmp_path)]
    assert explain(str(sample_run.path), *asked) == 0
    shown = capsys.readouterr().out
    assert "Faithfulness, means over 2 questions" in shown and "explain.png" in shown


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["--questions", "x"], "--questions 'x'"),
        (["--questions", "1", "--image", "1"], "both choose"),
        (["--image", "-5"], "nothing about an image"),
        (["--answer", "giraffe"], "giraffe"),
        (["--answer", "red", "--right"], "two answers"),
        (["--maps", "gradcma"], "gradcam"),
        (["--maps", "attention"], "nothing to draw"),
        (["--seed", "9"], "no seed 9"),
        (["--features", "txet=x"], "txet"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    sample_run: SimpleNamespace, said: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(str(sample_run.path), *said, "--faithfulness", "0", "--out", str(tmp_path / "x")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line
    assert not (tmp_path / "x").exists()
