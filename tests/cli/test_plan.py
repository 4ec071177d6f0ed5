"""`umecache plan` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umecache.cli.app import run
from umecache.cli.plan import gigabytes
from umecache.data.sample import write_sample

KEYS = {"items", "tokens", "bytes", "seconds", "peak_memory_bytes", "free_bytes", "break_even_runs"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    write_sample(folder, images=100, seed=0)
    return folder


def test_the_json_document(data: Path, private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--model", "sample-text", "--model", "sample-image", "--data", str(data), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() >= KEYS
    text, image = document["models"]
    assert text.keys() >= KEYS - {"free_bytes"}
    assert document["bytes"] == text["bytes"] + image["bytes"]
    assert document["hours"]["2"] == pytest.approx(document["hours"]["1"] / 2, abs=1e-4)
    assert not (private_home / "stores").exists(), "a plan stores nothing"


def test_words(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--model", "sample-image", "--data", str(data), "--layers", "all", "--epochs", "3"]) == 0
    said = capsys.readouterr().out
    for word in ("sample-image", "last,-2,-3", "GB int8", "--layers all (3)", "Of 3 epochs each", "GB free."):
        assert word in said, said


@pytest.mark.parametrize(("size", "said"), [(270_336, "0.00027"), (68.43e9, "68.4"), (109e9, "109"), (2.5e12, "2,500")])
def test_sizes_of_any_order(size: float, said: str) -> None:
    assert gigabytes(size) == said


def test_mistakes_are_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--model", "sampel-text", "--data", str(data)]) == 2
    assert "sample-text" in capsys.readouterr().err
