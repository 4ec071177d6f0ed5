"""The negative control beside a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from umecache.analysis.control import control_findings, control_table, measure_control
from umecache.analysis.evidence import read_document
from umecache.analysis.page import write_all
from umecache.data.dataset import Split
from umecache.errors import UsageError


def changed(folder: Path, **asked: Any) -> None:
    """The comparison as if it had been asked so."""
    document = json.loads((folder / "compare.json").read_text())
    document["asked"] |= asked
    (folder / "compare.json").write_text(json.dumps(document))


@pytest.fixture
def pair(tmp_path: Path, make_comparison: Any) -> tuple[Path, Path, Split]:
    """A comparison, and one of the same questions that plays its control: one method for another."""
    plain, split = make_comparison(tmp_path / "plain", images=40, methods=("text-only", "concat", "ume"))
    control, _ = make_comparison(tmp_path / "control", images=40, methods=("text-only", "ume"))
    changed(control, shuffle_images=True, data=json.loads((plain / "compare.json").read_text())["asked"]["data"])
    return plain, control, split


def test_losses_are_paired_and_of_the_rows_that_both_have(pair: tuple[Path, Path, Split]) -> None:
    plain, control, split = pair
    document, other = read_document(plain), read_document(control)
    told = measure_control(document, plain, split, control, rounds=200)
    assert [row["row"] for row in told["rows"]] == ["text-only", "ume"]
    same, ume = told["rows"]
    # The first method of both was drawn alike.
    assert (same["loss"], same["low"], same["high"], same["p"]) == (0.0, 0.0, 0.0, 1.0)
    assert ume["mean"] == other["rows"][1]["mean"]
    assert ume["loss"] == pytest.approx(document["rows"][2]["mean"] - ume["mean"], abs=0.02)
    assert ume["low"] < ume["loss"] < ume["high"]
    table = control_table({**document, "control": told})
    assert table is not None and table.faint == {0}
    assert table.cells(table.rows[0])[1:5] == [f"{same['mean']:.2f}", f"{same['mean']:.2f}", "0.00", "0.00 to 0.00"]
    blind = {**told, "rows": [{**row, "p_holm": 0.5} for row in told["rows"]]}
    sure = {**told, "rows": [{**row, "loss": 9.0, "p_holm": 0.001} for row in told["rows"]]}
    assert control_findings({**document, "control": blind}) == ["With images exchanged no loss is sure for: ume."]
    assert "every fusion row loses" in control_findings({**document, "control": sure})[0]
    assert control_table(document) is None and control_findings(document) == []


def test_the_report_shows_it_and_keeps_it(pair: tuple[Path, Path, Split]) -> None:
    plain, control, _ = pair
    first = write_all(plain, control=control, rounds=100, figure_files=False)
    for name in ("report.html", "report.md", "report.tex"):
        assert "Negative control" in (plain / name).read_text()
    assert (plain / "tables" / "control.csv").is_file()
    again = write_all(plain, rounds=100, figure_files=False)
    assert again["control"] == first["control"] and again["findings"] == first["findings"]


def test_what_is_no_control_of_it_is_refused(pair: tuple[Path, Path, Split]) -> None:
    plain, control, split = pair
    with pytest.raises(UsageError, match="is no negative control"):
        measure_control(read_document(plain), plain, split, plain)
    with pytest.raises(UsageError, match="is a negative control"):
        measure_control(read_document(control), control, split, control)
    changed(control, epochs=99)
    with pytest.raises(UsageError) as caught:
        measure_control(read_document(plain), plain, split, control)
    assert "differ in epochs" in caught.value.why
