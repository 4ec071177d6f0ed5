"""The table of a comparison."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from umecache.training.table import answer_types, cells, columns, count, remarks, with_spread, write_csv, write_markdown


def row(method: str, mean: float | None, **changed: Any) -> dict[str, Any]:
    return {
        "method": method,
        "text": "bert",
        "image": "vit",
        "mean": mean,
        "std": None if mean is None else 0.25,
        "seeds": [{"seed": 0}, {"seed": 1}],
        "per_answer_type": None if mean is None else {"yes/no": 60.0, "other": 20.0},
        "lr": 3e-4,
        "parameters": 1_234_567,
        "seconds": 12.34,
        "missing_inputs": {"text": 0, "image": 2},
        "run": f"runs/{method}",
        "source": None,
        **changed,
    }


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "rows": [row("concat", 40.0), row("ume", 41.5, source={"mean": 50.481, "std": 1.94})],
        "data": "world",
        "eval_split": "val",
        "protocol": "official-2021",
        "questions": {"trained_on": 900, "skipped_out_of_vocabulary": 100, "eval": 250, "eval_out_of_vocabulary": 30},
        "vocabulary": {"classes": 500, "coverage": 93.25, "definition": "share of the train questions"},
        "baselines": {"majority_answer": "yes", "majority": 25.0, "majority_per_question": 33.1},
        "notes": ["One read."],
        "recipe": {"source": "K. Lee", "title": "UME thesis", "differs": ["Frozen encoders."]},
    }


def test_rows_are_worded_once_for_all_tables(document: dict[str, Any]) -> None:
    named = columns(document)
    assert named == ["method", "text", "image", "accuracy", "yes/no", "other", "lr", "parameters", "seconds", "source"]
    assert cells(document["rows"][1], named) == [
        "ume", "bert", "vit", "41.50 ± 0.25", "60.00", "20.00", "0.0003", "1.2 M", "12.3", "50.48 ± 1.94",
    ]  # fmt: skip
    assert cells(document["rows"][0], named)[-1] == "-"


def test_the_source_s_column_is_there_only_with_figures(document: dict[str, Any]) -> None:
    document["rows"] = document["rows"][:1]
    assert "source" not in columns(document)


def test_a_split_without_annotations_is_not_scored(document: dict[str, Any]) -> None:
    document["rows"] = [row("concat", None)]
    assert answer_types(document["rows"]) == []
    assert "not scored" in cells(document["rows"][0], columns(document))


def test_answer_types_stand_in_the_order_of_the_papers() -> None:
    types = {"other": 1.0, "audio": 1.0, "number": 1.0, "yes/no": 1.0}
    assert answer_types([row("ume", 1.0, per_answer_type=types)]) == ["yes/no", "number", "other", "audio"]


def test_missing_inputs_are_told_for_each_pair(document: dict[str, Any]) -> None:
    [told] = [line for line in remarks(document) if line.startswith("Inputs")]
    assert told.startswith("Inputs that could not be read: 2 image;")
    rows = [*document["rows"], row("ume", 1.0, image="beit", missing_inputs={"text": 1, "image": 1_200})]
    rows.append(row("ume", 1.0, text="roberta", missing_inputs={"text": 0, "image": 0}))
    [told] = [line for line in remarks({**document, "rows": rows}) if line.startswith("Inputs")]
    assert "2 image (bert + vit); 1 text, 1,200 image (bert + beit); none (roberta + vit); these" in told
    assert not any(line.startswith("Inputs") for line in remarks({**document, "rows": rows[-1:]}))


def test_small_words() -> None:
    assert [count(n) for n in (12, 1_200, 3_400_000, 2_000_000_000)] == ["12", "1.2 k", "3.4 M", "2.0 G"]
    assert with_spread(41.256, 0.0) == "41.26", "one seed has no spread"
    assert with_spread(41.256, 0.346) == "41.26 ± 0.35"


def test_remarks_say_what_the_numbers_stand_on(document: dict[str, Any]) -> None:
    said = "\n".join(remarks(document))
    for fact in (
        "100 skipped",
        "93.25 %",
        "30 questions of 'val'",
        "always 'yes' 25.00",
        "2 image",
        "K. Lee",
        "not ours",
    ):
        assert fact in said


def test_markdown_and_csv(document: dict[str, Any], tmp_path: Path) -> None:
    write_markdown(tmp_path / "report.md", document)
    text = (tmp_path / "report.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "| ume | bert | vit | 41.50 ± 0.25 |" in text
    write_csv(tmp_path / "table.csv", document)
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["method"], float(first["mean"]), first["source_mean"]) == ("concat", 40.0, "")
    assert (int(second["seeds"]), float(second["yes/no"]), float(second["source_mean"])) == (2, 60.0, 50.481)
