"""The tables of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import row
from umecache.analysis.evidence import read_document, with_statistics
from umecache.analysis.sections import (
    accuracy,
    by_type,
    cost,
    counted,
    differences,
    labels,
    same_answers,
    sections,
    unlikeness,
)
from umecache.data.dataset import Split
from umecache.fusion.cost import figures


@pytest.fixture(scope="module")
def full(finished: tuple[Path, Split]) -> dict[str, Any]:
    folder, split = finished
    return with_statistics(read_document(folder), folder, split, rounds=50)


def test_all_tables_of_a_document_with_statistics(full: dict[str, Any]) -> None:
    assert [table.key for table in sections(full)] == ["accuracy", "differences", "cost", "types", "agreement"]


def test_a_document_without_statistics_has_fewer(finished: tuple[Path, Split]) -> None:
    document = read_document(finished[0])
    assert [table.key for table in sections(document)] == ["accuracy", "cost", "types"]
    assert differences(document) is None and same_answers(document) is None
    assert accuracy(document).cells(accuracy(document).rows[0])[2] == "–"


def test_accuracy_says_means_intervals_and_types(full: dict[str, Any]) -> None:
    table = accuracy(full)
    row = full["rows"][2]
    said = table.cells(table.rows[2])
    low, high = row["interval"]
    assert said[:3] == ["ume", f"{row['mean']:.2f}", f"{low:.2f} to {high:.2f}"]
    assert [column.name for column in table.columns] == [
        "row", "accuracy", "95 % interval", "SD of seeds", "yes/no", "other", "lr",
    ]  # fmt: skip
    assert table.faint == {0}


def test_the_source_has_a_column_of_its_own(full: dict[str, Any]) -> None:
    rows = [{**row, "source": {"mean": 50.5, "std": 1.9} if row["method"] == "ume" else None} for row in full["rows"]]
    table = accuracy({**full, "rows": rows})
    assert [table.cells(row)[-1] for row in table.rows] == ["–", "–", "50.50 ± 1.90", "–"]


def test_differences_leave_the_baseline_out(full: dict[str, Any]) -> None:
    table = differences(full)
    assert table is not None and [row["row"] for row in table.rows] == ["text-only", "ume", "ume-res"]
    assert table.faint == {0} and "3 tests" in table.note


def test_cost_is_counted_from_the_equations(full: dict[str, Any]) -> None:
    found = counted(full, full["rows"][2])
    assert found == figures("ume", {"text": 384, "image": 1280}, {"text": 12, "image": 49}, width=256)
    assert cost(full).rows[2]["megabytes"] == round(found.memory * 4 * 64 / 1e6, 2)
    assert counted(full, {**full["rows"][2], "method": "mine.py:Mine"}) is None
    assert counted(full, {**full["rows"][2], "tokens": None}) is None


def test_types_and_labels(full: dict[str, Any]) -> None:
    table = by_type(full)
    assert table is not None and [row["question type"] for row in table.rows] == ["what is", "is <it>"]
    several = [{**row, "image": f"vit{place}"} for place, row in enumerate(full["rows"])]
    assert labels({**full, "rows": several})[1] == "concat, bert + vit1"
    rates = [{**row, "method": "ume", "lr": place + 1.0} for place, row in enumerate(full["rows"])]
    assert labels({**full, "rows": rates}) == ["ume, 1", "ume, 2", "ume, 3", "ume, 4"]


def test_unlikeness_before_and_after(document: Any) -> None:
    before = {"gap": 2.0, "cka": 0.1, "probe": 100.0, "rank": 30.0, "spread": 1.5}
    after = {**before, "gap": 0.25, "cka": None}
    found = {
        "questions": 512,
        "rows": [
            {"row": "concat", "before": before, "after": None},
            {"row": "ume", "before": before, "after": after},
            {"row": "mine", "before": None, "after": None},
        ],
    }
    table = unlikeness(document(row("concat", 40.0), row("ume", 50.0), row("mine", 1.0), heterogeneity=found))
    assert table is not None
    one, two, three = (table.cells(each) for each in table.rows)
    assert one[2:] == ["2.00", "0.10", "100.0", "30.0", "1.50"]
    assert two[2:4] == ["2.00 → 0.25", "0.10"] and three[2:] == ["–"] * 5
    assert r"2.00 $\to$ 0.25" in table.latex() and table.rows[1]["gap_after"] == 0.25
    for nothing in (None, {"unavailable": "gone"}):
        assert unlikeness(document(row("ume", 1.0), heterogeneity=nothing)) is None
