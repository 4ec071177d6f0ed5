"""`umecache demo` as a user types it, small: everything is written, runs again, and touches nothing of others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from umecache.cli import demo as module
from umecache.cli.app import run
from umecache.data.dataset import open_dataset
from umecache.data.results import read_results
from umecache.data.scoring import score_predictions
from umecache.stores import open_store

SMALL = ["--images", "100", "--seeds", "0,", "--epochs", "1"]
METHODS = ["text-only", "image-only", "concat", "product", "attention", "evc", "ume", "ume-res"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def document(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first demo into `folder` prints with --json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UMECACHE_HOME", str(tmp_path_factory.mktemp("demo-home")))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "umecache", "demo", "--out", str(folder), *SMALL, "--json"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)  # nothing else on standard output
    return found


def test_document(document: dict[str, Any]) -> None:
    assert [row["method"] for row in document["rows"]] == METHODS
    assert all(0 < row["mean"] <= 100 for row in document["rows"])
    assert {"data", "extraction", "training", "pictures", "all"} == set(document["seconds"])
    assert len(document["stores"]) == 4
    assert document["findings"]


def test_everything_it_names_is_there(document: dict[str, Any], folder: Path) -> None:
    for name in ("out", "data", "comparison", "report", "plot", "examples"):
        assert Path(document[name]).exists()
        assert Path(document[name]).is_relative_to(folder)
    for store in document["stores"]:
        assert len(open_store(store["path"])) == store["records"]
        assert store["failed"] == 0


def test_scores_are_those_of_the_results_files(document: dict[str, Any]) -> None:
    split = open_dataset(document["data"]).split("val")
    for row in document["rows"]:
        answers = read_results(row["seeds"][0]["results"])
        assert score_predictions(answers, split).overall == row["mean"]


def test_report_and_pictures(document: dict[str, Any]) -> None:
    report = Path(document["report"]).read_text()
    assert all(method in report for method in METHODS)
    assert report.count("(control)") == 2
    assert "![" in report and "accuracy.png" in report and "examples.png" in report
    for name in ("plot", "examples"):
        with Image.open(document[name]) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] > 800
        assert 0.02 < (pixels < 200).mean() < 0.9  # neither empty nor black


def test_run_again_uses_what_is_there(
    document: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "stores" in p.parts}
    pictures = {p: p.stat().st_mtime_ns for p in (folder / "sample" / "images").iterdir()}
    assert run(["demo", "--out", str(folder), *SMALL]) == 0
    shown = capsys.readouterr()
    for words in ("text-only (control)", "ume-res", "Best control", "report.md", "examples.png", "in all"):
        assert words in shown.out
    assert "already" in shown.err and "complete" in shown.err
    assert {p: p.stat().st_mtime_ns for p in pictures} == pictures
    assert {p: p.stat().st_mtime_ns for p in before} == before
    again = json.loads((folder / "comparison" / "compare.json").read_text())["rows"]
    if os.environ.get("OMP_NUM_THREADS") == "1":  # sums in one order
        assert [row["mean"] for row in again] == [row["mean"] for row in document["rows"]]


def test_another_size_starts_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Told()
    module._make_data(tmp_path / "d", 120, reporter)
    (tmp_path / "d" / "stores").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("a note")
    module._make_data(tmp_path / "d", 100, reporter)
    assert not (tmp_path / "d" / "stores").exists()
    assert (tmp_path / "d" / "mine.txt").exists()
    assert len(list((tmp_path / "d" / "sample" / "images").iterdir())) == 100
    module._make_data(tmp_path / "d", 100, reporter)
    assert "already" in reporter.said[-1]


def test_data_cut_short_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("umecache.data.sample.ask", interrupt)
        module._make_data(tmp_path / "d", 100, Told())
    assert not (tmp_path / "d" / "sample" / "questions_val.json").exists()
    module._make_data(tmp_path / "d", 100, Told())
    assert open_dataset(tmp_path / "d" / "sample").splits == ("train", "val")


def interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def task(self, label: str, total: float | None, unit: str = "items") -> Any:
        raise AssertionError("no bar is needed")


def test_without_a_kernel_the_sample_is_smaller_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Told()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("UMECACHE_PAIRS", "tiled")
    assert module._affordable(reporter) == module.FEWER_IMAGES
    assert "plain PyTorch" in reporter.said[0]
    monkeypatch.setattr("umecache.fusion.pairs.implementation", lambda device, dtype: ("cpu", "compiled"))
    assert module._affordable(reporter) == module.IMAGES
    assert len(reporter.said) == 1


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run(["demo", "--out", str(tmp_path), *SMALL]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "argv", [["--images", "20"], ["--seeds", "none"], ["--epochs", "0"], ["--images", "-5"], ["--out", "/dev/null/x"]]
)
def test_bad_usage_writes_nothing(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = [] if "--out" in argv else ["--out", str(tmp_path / "d")]
    assert run(["demo", *out, *argv, "--json"]) == 2
    assert {"what", "why", "next"} == set(json.loads(capsys.readouterr().out)["error"])
    assert not (tmp_path / "d").exists()


# A job in the background starts with Ctrl-C ignored.
STOPPABLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from umecache.cli.app import main
main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 1)])
def test_stopping_it_leaves_one_line(number: signal.Signals, status: int, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", STOPPABLE, "demo", "--out", str(tmp_path / "d"), "--images", "2000"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "Drawing" in first
        time.sleep(0.3)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == status
    assert rest.count("\n") == 1
    assert rest.startswith("error: Stopped")
    assert "run the same command again" in rest
