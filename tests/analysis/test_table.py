"""Tables of a comparison: what is in the cells, which rows are marked."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tests.analysis.conftest import row
from umecache.analysis.table import is_control, markdown_table, rich_table

Make = Callable[..., dict[str, Any]]


def printed(document: dict[str, Any], **options: Any) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(rich_table(document, **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("method", "control"), [("text-only", True), ("image-only", True), ("ume", False), ("x.py:X", False)]
)
def test_controls(method: str, control: bool) -> None:
    assert is_control(method) is control


def test_terminal(document: Make) -> None:
    text = printed(document(row("text-only", 35.0, 37.0), row("ume", 80.0, 81.0)))
    lines = text.splitlines()
    control = next(line for line in lines if "text-only" in line)
    method = next(line for line in lines if "ume" in line)
    assert "(control)" in control and "(control)" not in method
    assert "36.00 ± 1.41" in control and "80.50 ± 0.71" in method
    assert "12.3 k" in method and "60.00" in method and "bert" in method and "vit" in method


def test_markdown(document: Make) -> None:
    text = markdown_table(document(row("image-only", 20.0), row("ume-res", 81.5)), only=["method", "accuracy", "other"])
    assert text.splitlines() == [
        "| method | accuracy | other |",
        "| --- | ---: | ---: |",
        "| image-only (control) | 20.00 | 20.00 |",
        "| ume-res | 81.50 | 20.00 |",
    ]


def test_markdown_without_choice_has_all_columns(document: Make) -> None:
    head, _, line = markdown_table(document(row("ume", 50.0))).splitlines()
    assert head.count("|") == line.count("|") == 11
    assert {"method", "text", "image", "accuracy", "yes/no", "number", "other", "lr"} <= set(head.split(" | ")) | {
        "method"
    }


def test_only_the_columns_asked_for(document: Make) -> None:
    text = printed(document(row("ume", 50.0)), only=["method", "seconds"])
    assert "seconds" in text and "1.5" in text
    assert "parameters" not in text and "bert" not in text


def test_names_cannot_break_the_table(document: Make) -> None:
    line = markdown_table(document(row("a|b", 1.0)), only=["method", "accuracy"]).splitlines()[-1]
    assert line == "| a\\|b | 1.00 |"


def test_rows_without_scores(document: Make) -> None:
    unscored = row("ume", per_answer_type=None)
    assert "not scored" in printed(document(unscored))
    assert "not scored" in markdown_table(document(unscored))


def test_method_names_with_brackets_are_not_markup(document: Make) -> None:
    assert "./my[red]/x.py:X" in printed(document(row("./my[red]/x.py:X", 1.0)))
