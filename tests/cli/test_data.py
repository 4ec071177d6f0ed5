"""`umecache data`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umecache.cli import app
from umecache.data import download
from umecache.data.download import Fetched

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Exit status, standard output, standard error of one command line, run in an empty folder."""
    monkeypatch.setattr(app, "COMMANDS", {"data": app.COMMANDS["data"]})
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        status = app.run(argv)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Twenty questions on twenty images, one of them missing."""
    folder = tmp_path / "toy"
    (folder / "images").mkdir(parents=True)
    records: list[dict[str, Any]] = [{"question_id": n, "image_id": n, "question": "?"} for n in range(20)]
    (folder / "questions_train.json").write_text(json.dumps({"questions": records}))
    annotations = [{**record, "answers": [{"answer": f"a{n // 5}"}] * 10} for n, record in enumerate(records)]
    (folder / "annotations_train.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "questions_test.json").write_text(json.dumps({"questions": records[:3]}))
    for n in range(1, 20):
        (folder / "images" / f"{n:012d}.jpg").write_bytes(b"jpg")
    return folder


def test_info(run: Run, toy: Path) -> None:
    status, out, _ = run("data", "info", str(toy), "--classes", "3", "--json")
    document = json.loads(out)
    assert status == 0 and document["name"] == "toy" and document["classes"] == 3
    assert document["splits"] == {
        "train": {"questions": 20, "images": 20, "images_missing": 1, "answers": 200, "coverage": 75.0},
        "test": {"questions": 3, "images": 3, "images_missing": 1, "answers": 0, "coverage": None},
    }
    status, out, err = run("data", "info", "toy")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:4]] == [
        ["split", "questions", "images", "missing", "answers", "coverage"],
        ["train", "20", "20", "1", "200", "100.00", "%"],
        ["test", "3", "3", "1", "-", "-"],
    ]
    assert "normalised most common answer" in out.splitlines()[-1]
    assert json.loads(run("data", "info", "toy", "--classes", "0", "--min-count", "6", "--json")[1])["classes"] == 0


def test_split(run: Run, toy: Path, private_home: Path) -> None:
    status, out, _ = run("data", "split", "toy", "--by", "image", "--fraction", "0.1", "--seed", "0", "--json")
    folder = private_home / "data" / "toy-train-by-image-0.1-seed0"
    assert status == 0
    assert json.loads(out) == {
        "folder": str(folder),
        "splits": {"train": {"questions": 18, "images": 18}, "heldout": {"questions": 2, "images": 2}},
    }
    splits = json.loads(run("data", "info", folder.name, "--json")[1])["splits"]
    assert {name: one["questions"] for name, one in splits.items()} == {"train": 18, "heldout": 2, "test": 3}
    assert sum(one["images_missing"] for name, one in splits.items() if name != "test") == 1
    status, out, _ = run("data", "split", "toy", "--names", "a,b", "--out", "there", "--by", "question")
    assert status == 0 and out.splitlines()[1:] == ["  a: 18 questions on 18 images", "  b: 2 questions on 2 images"]
    assert json.loads(run("data", "info", "there", "--json")[1])["name"] == "there"


def test_get_passes_on_what_was_asked(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def get(name: str, **options: Any) -> tuple[Path, list[Fetched]]:
        asked.update(options, name=name)
        return tmp_path, [Fetched("a.zip", "fetched", "http://host/a.zip", 10, "ab", {"questions_val.json": 1234})]

    monkeypatch.setattr(download, "get", get)
    status, out, _ = run("data", "get", "vqa-v2")
    assert status == 0 and out.splitlines() == [str(tmp_path), "  a.zip fetched: questions_val.json: 1,234"]
    assert (asked["splits"], asked["parts"]) == (("train", "val"), ("questions", "annotations", "images"))
    assert asked["name"] == "vqa-v2" and asked["out"] is None and asked["base_url"] is None
    argv = [
        "--split",
        "val,test",
        "--parts",
        "questions",
        "--out",
        "there",
        "--base-url",
        "http://host",
        "--keep-archives",
        "--json",
    ]
    status, out, _ = run("data", "get", "vqa-v2", *argv)
    assert (asked["splits"], asked["parts"], asked["out"]) == (("val", "test"), ("questions",), Path("there"))
    assert (asked["base_url"], asked["keep_archives"]) == ("http://host", True)
    document = json.loads(out)
    assert status == 0 and document["folder"] == str(tmp_path)
    assert document["archives"][0]["contents"] == {"questions_val.json": 1234}


def test_mistakes(run: Run, toy: Path) -> None:
    (toy / "questions_odd.json").write_text('{"questions": [{"question_id": "1"}]}')
    for argv, says in (
        (["info", "nowhere"], "There is no data folder"),
        (["info"], "umecache data get vqa-v2"),
        (["info", "."], "holds no data set that is known"),
        (["info", "toy"], "questions_odd.json, record 1: question_id"),
        (["info", "toy", "--classes", "-1"], "--classes"),
        (["split", "toy", "--names", "one"], "not two names"),
        (["split", "toy", "--fraction", "1.5"], "between 0 and 1"),
        (["split", "toy", "--split", "val"], "Unknown split 'val'"),
        (["split", "toy", "--by", "answer"], "Unknown --by 'answer'"),
        (["split", "toy", "--out", "toy/held"], "lies inside the source"),
        (["sample", "toy/questions_odd.json", "--images", "100"], "questions_odd.json can't be written. "),
        (["get", "vqa-v3"], "Did you mean 'vqa-v2'?"),
        (["get", "vqa-v2", "--split", "dev"], "Unknown split 'dev'"),
        (["get", "vqa-v2", "--parts", "pictures"], "Unknown part 'pictures'"),
        (["get", "vqa-v2", "--base-url", "ftp://host"], "no http or https address"),
    ):
        status, out, err = run("data", *argv)
        assert (status, out) == (2, "") and says in err, argv
        assert len(err.splitlines()) == 1, argv


@pytest.mark.parametrize("command", ["get", "info", "split"])
def test_help_has_an_example(run: Run, command: str) -> None:
    status, out, _ = run("data", command, "--help")
    assert status == 0 and f"umecache data {command} vqa-v2" in out.replace(f"Usage: umecache data {command}", "")


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys, umecache.cli.data, umecache.cli.score, umecache.data.scoring, umecache.data.download\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'transformers', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
