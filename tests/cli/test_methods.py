"""`umecache methods`."""

from __future__ import annotations

import json

import pytest

from umecache.cli.methods import methods
from umecache.fusion.registry import METHODS


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    methods(json=True)
    document = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in document["methods"]] == list(METHODS)
    ume = next(entry for entry in document["methods"] if entry["name"] == "ume")
    assert {"equation", "citation", "summary", "min_modalities", "uses", "control", "options", "cost"} < set(ume)
    assert ume["cost"]["macs"].startswith("X D + 6 N D^2")
    assert {"name": "pairs", "default": "upper"}.items() <= ume["options"][2].items()


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    methods(json=False)
    out = capsys.readouterr().out
    for entry in METHODS.values():
        assert entry.name in out
        assert entry.equation.split(",")[0] in out, "brackets in equations are no markup"
    assert "D width, M" in out
    assert "--method ./mine.py:Mine" in out


def test_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    methods(names=["mlb"], json=True)
    document = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in document["methods"]] == ["mlb"]
    assert document["entry_points"] == []
