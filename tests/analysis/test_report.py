"""Sentences and reports: only what the rows show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import row
from umecache.analysis.report import findings, write_report

Make = Callable[..., dict[str, Any]]
CONTROLS = (row("text-only", 39.0, 41.0), row("image-only", 20.0, 22.0))  # 40 ± 1.41


def test_all_above(document: Make) -> None:
    said = findings(document(*CONTROLS, row("ume", 80.0, 82.0), row("concat", 60.0, 62.0)))
    assert "text-only 40.0 %" in said[0]
    assert said[1].endswith("all fusion methods.")
    assert "ume 81.0 %; concat 61.0 %" in said[2]


def test_some_above(document: Make) -> None:
    said = findings(document(*CONTROLS, row("ume", 80.0, 82.0), row("evc", 41.0, 43.0)))
    assert said[1].endswith("spreads: ume; not evc.")


@pytest.mark.parametrize("scores", [(40.0, 44.0), (10.0, 12.0)])
def test_none_above(document: Make, scores: tuple[float, float]) -> None:
    said = findings(document(*CONTROLS, row("ume", *scores)))
    assert said[1].endswith("no fusion method; not ume.")


def test_hardest_question_type(document: Make) -> None:
    types = {"is the": 51.0, "how many": 83.0}
    said = findings(document(*CONTROLS, row("ume", 80.0, per_question_type=types), row("evc", 50.0)))
    assert any("ume" in line and "'is the'" in line and "51.0 %" in line for line in said)


def test_rates(document: Make) -> None:
    shared = findings(document(row("ume", 80.0), row("evc", 50.0)))
    assert any("one rate (0.001)" in line for line in shared)
    own = findings(document(row("ume", 80.0, lr=3e-4), row("evc", 50.0)))
    assert not any("one rate" in line for line in own)


def test_rates_that_were_chosen_alike_are_each_ones_own(document: Make) -> None:
    said = findings(document(row("ume", 80.0), row("evc", 50.0), asked={"lr": "auto"}))
    assert not any("one rate" in line for line in said)


def test_rows_of_a_grid_are_told_apart(document: Make) -> None:
    rows = [row("ume", score, text=text) for text, score in (("bert", 80.0), ("roberta", 50.0))]
    said = findings(document(*CONTROLS, *rows))
    assert any("ume, bert + vit 80.0 %; ume, roberta + vit 50.0 %" in line for line in said)
    assert not any("one rate" in line for line in said)  # of one method nothing is ranked


def test_without_controls_or_scores(document: Make) -> None:
    assert not any("control" in line for line in findings(document(row("ume", 80.0))))
    assert findings(document(row("ume"))) == []
    assert len(findings(document(*CONTROLS))) == 1


def test_report(document: Make, tmp_path: Path) -> None:
    comparison = document(*CONTROLS, row("ume", 80.0, 82.0), questions={"eval": 1200, "trained_on": 4800})
    write_report(
        tmp_path / "report.md",
        comparison,
        title="A title",
        columns=["method", "accuracy"],
        pictures={"A plot": "accuracy.png"},
        notes=["First.", "Second."],
    )
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# A title\n\n| method | accuracy |\n")
    for part in ("| ume | 81.00 ± 1.41 |", "- First.\n- Second.\n", "![A plot](accuracy.png)", "1,200", "4,800"):
        assert part in text
    assert "official-2021" in text


def test_a_report_needs_neither_pictures_nor_notes(document: Make, tmp_path: Path) -> None:
    comparison = document(row("ume", 80.0), questions={"eval": 10, "trained_on": 20})
    write_report(tmp_path / "r.md", comparison, title="T")
    assert "![" not in (tmp_path / "r.md").read_text()
