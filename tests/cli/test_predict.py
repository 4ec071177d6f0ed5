"""`umecache predict` as a user types it, on a run of the built-in sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from umecache.cli.app import run
from umecache.data.dataset import open_dataset
from umecache.data.results import read_results


def predict(*argv: str) -> int:
    return run(["predict", *argv, "--devices", "cpu"])


def asked(sample_run: Any) -> tuple[Path, list[Any]]:
    split = open_dataset(sample_run.data).split("val")
    image = split.image_path(split.image_ids[0])
    assert image is not None
    return image, [question for question in split.questions if question.image_id == split.image_ids[0]]


def test_json(sample_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    image, questions = asked(sample_run)
    options = [option for question in questions for option in ("--question", question.text)]
    assert predict(str(sample_run.path), "--image", str(image), *options, "--seed", "1", "--top", "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    said = read_results(sample_run.path / "seed-1" / "results_val.json")
    assert [entry["answer"] for entry in document["answers"]] == [said[question.id] for question in questions]
    assert document["method"] == "concat" and set(document["seconds"]) == {"text", "image", "fusion"}
    for entry in document["answers"]:
        assert len(entry["top"]) == 2
        assert entry["top"][0] == {"answer": entry["answer"], "probability": entry["probability"]}


def test_words(sample_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    image, questions = asked(sample_run)
    assert predict(str(sample_run.path), "--image", str(image), "--question", questions[0].text) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == questions[0].text and "%" in shown[1] and "fusion" in shown[-1]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "--image"),
        (["--image", "none.jpg"], "none.jpg can't be read"),
        (["--image", __file__], "image can't be read"),
        (["--weights", "bert=."], "sample-text"),
        (["--seed", "9"], "no seed 9"),
        (["--top", "0"], "--top 0"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    sample_run: Any, said: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(str(sample_run.path), "--question", "what is this?", *said) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(str(tmp_path), "--question", "what is this?") == 2
    assert "not a run folder" in capsys.readouterr().err


def test_a_whole_split_into_a_results_file(sample_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    assert predict(str(sample_run.path), "--split", "val", "--seed", "1", "--out", str(out), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert read_results(out) == read_results(sample_run.path / "seed-1" / "results_val.json")
    assert document["questions"] == len(read_results(out)) and document["results"] == str(out)
    assert predict(str(sample_run.path), "--split", "val", "--out", str(out)) == 0
    assert "accuracy" in capsys.readouterr().out
    assert predict(str(sample_run.path), "--split", "val", "--question", "why?") == 2
