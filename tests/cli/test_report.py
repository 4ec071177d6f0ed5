"""`umecache report` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umecache.analysis import measured_cost
from umecache.cli.app import run

QUICK = ["--epochs", "1", "--width", "8", "--batch-size", "16", "--devices", "cpu", "--seeds", "2"]


def test_a_comparison_has_its_report_and_can_have_another(
    tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c"
    made = ["compare", *tiny, *QUICK, "--methods", "text-only,concat", "--out", str(out), "--json"]
    assert run(made) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["statistics"]["baseline"] == "concat" and first["rows"][0]["interval"]
    assert Path(first["html"]) == out / "report.html" and (out / "report.html").is_file()
    measured = first["heterogeneity"]["rows"]
    assert [each["row"] for each in measured] == ["text-only", "concat"]
    assert measured[0]["before"]["gap"] is None and measured[1]["before"]["gap"] > 0
    assert "How unlike the modalities are" in (out / "report.html").read_text()
    assert run(["report", str(out), "--baseline", "text-only", "--rounds", "100", "--tokens", "0"]) == 0
    shown = capsys.readouterr().out
    assert "Against text-only" in shown and "report.html" in shown
    assert json.loads((out / "compare.json").read_text())["statistics"]["baseline"] == "text-only"
    assert json.loads((out / "compare.json").read_text())["heterogeneity"] is None
    found = {
        "format": 1, "width": 8, "device": "x", "threads": 1, "cores": 1, "load": None, "torch": "2", "took": 1.0,
        "date": "2026-01-01",
        "forms": [{"form": "kept", "points": [{"tokens": 4, "seconds": 0.5, "bytes": 10}],
                   "slopes": {"seconds": None, "bytes": None}, "stopped": None}],
    }  # fmt: skip
    asked: dict[str, object] = {}
    monkeypatch.setattr(measured_cost, "measure", lambda **how: asked.update(how) or found)
    assert run(["report", str(out), "--rounds", "100", "--tokens", "0", "--measure-cost"]) == 0
    assert asked["width"] == 8
    assert run(["report", str(out), "--rounds", "100", "--tokens", "0"]) == 0  # not measured again
    assert json.loads((out / "compare.json").read_text())["measured_cost"] == found
    assert json.loads((out / "compare.json").read_text())["statistics"]["baseline"] == "text-only"  # as it was chosen


def test_the_negative_control_stands_beside_the_rows(
    tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plain, shuffled = str(tmp_path / "plain"), str(tmp_path / "shuffled")
    made = ["compare", *tiny, *QUICK, "--methods", "text-only,concat"]
    assert run([*made, "--out", plain]) == run([*made, "--shuffle-images", "--out", shuffled]) == 0
    capsys.readouterr()
    assert run(["report", plain, "--control", shuffled, "--rounds", "100", "--tokens", "0", "--json"]) == 0
    text_only, concat = json.loads(capsys.readouterr().out)["control"]["rows"]
    assert (text_only["loss"], text_only["p"]) == (0.0, 1.0)  # it sees no image: both heads are one
    assert concat["row"] == "concat"
    assert run(["report", shuffled, "--control", plain]) == 2
    assert "is a negative control itself" in capsys.readouterr().err


def test_mistakes_are_told_in_one_line(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["report", str(tmp_path)]) == 2
    assert "is not a comparison" in capsys.readouterr().err
    # Before anything is trained.
    assert run(["compare", *tiny, *QUICK, "--methods", "text-only,concat", "--baseline", "conct"]) == 2
    assert "concat" in capsys.readouterr().err
