"""Figures: drawn without warnings, inline ones in the page's colours."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from umecache.analysis.evidence import read_document, with_statistics
from umecache.analysis.figures import (
    accuracy_figure,
    cost_figure,
    curves_figure,
    differences_figure,
    inline_svg,
    save,
    tokens_figure,
    worth_it,
)
from umecache.data.dataset import Split


@pytest.fixture(scope="module")
def full(finished: tuple[Path, Split]) -> dict[str, Any]:
    folder, split = finished
    return with_statistics(read_document(folder), folder, split, rounds=50)


def test_inline_svg_is_xml_in_variables_with_text_as_text(full: dict[str, Any]) -> None:
    full["rows"][2]["method"] = "mine $x$ <b>"
    svg = inline_svg(accuracy_figure(full), 'a "title"')
    tree = ET.fromstring(svg.replace("xlink:href", "href"))
    words = " ".join(text for text in tree.itertext())
    assert "mine $x$ <b>" in words and "accuracy (%)" in words
    assert "var(--blue)" in svg and "var(--ink)" in svg and "#0072b2" not in svg.lower()
    assert "http" not in svg and "<metadata" not in svg
    full["rows"][2]["method"] = "ume"


def filled(document: dict[str, Any]) -> int:
    """Dots of the figure that are filled."""
    figure = differences_figure(document)
    assert figure is not None
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    return sum(dot.get_markerfacecolor() == dot.get_markeredgecolor() for dot in dots)


def test_differences_are_filled_where_they_are_sure(full: dict[str, Any]) -> None:
    for row in full["rows"]:
        if row["difference"]:
            row["difference"]["p_holm"] = 0.5
    assert filled(full) == 0
    full["rows"][3]["difference"]["p_holm"] = 0.01
    assert filled(full) == 1


def test_cost_has_memory_only_where_it_is_known(full: dict[str, Any]) -> None:
    assert len(cost_figure(full).axes) == 3
    rows = [{**row, "tokens": None} for row in full["rows"]]
    assert len(cost_figure({**full, "rows": rows}).axes) == 2


def test_cost_joins_what_no_other_row_beats_for_less() -> None:
    assert worth_it([3, 1, 2, 2, 4], [50, 40, 30, 45, 50]) == [1, 3, 0]
    assert worth_it([1, 1], [5, 5]) == [0]


def many(full: dict[str, Any], count: int) -> dict[str, Any]:
    rows = [{**full["rows"][2], "method": f"m{k}", "mean": 30.0 + k % 7, "seconds": 1.0 + k} for k in range(count)]
    return {**full, "rows": rows}


def test_of_many_rows_cost_numbers_those_worth_it(full: dict[str, Any]) -> None:
    figure = cost_figure(many(full, 20))
    # Seconds rise with k, so those worth it are the first seven; parameters and memory are alike: the first best one.
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == [str(k) for k in range(1, 8)]
    assert [text.get_text() for text in figure.axes[1].texts] == ["7"]
    keys = figure._supxlabel.get_text()  # type: ignore[attr-defined]
    assert "7 m6" in keys and "8 m7" not in keys
    assert len(cost_figure(many(full, 12)).axes[0].texts) == 12


def test_of_many_rows_curves_name_the_first() -> None:
    told = [(f"m{k}", [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0 + k}]) for k in range(20)]
    figure = curves_figure(told)
    assert figure is not None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*(f"m{k}" for k in range(7)), "13 others"]
    assert len(figure.axes[0].lines) == 20


def test_unlikeness_is_drawn_before_and_behind_with_its_intervals(full: dict[str, Any]) -> None:
    before, after = ({"gap": g, "cka": 0.1, "probe": 99.0, "rank": 9.0, "spread": 1.0} for g in (2.0, 0.5))
    alone = {**before, "gap": None, "cka": None, "probe": None}
    told = [
        {"row": "text-only", "before": alone, "after": None},
        {"row": "concat", "before": before, "after": None, "interval": {"before": {"gap": [1.5, 2.5]}, "after": None}},
        {"row": "ume", "before": before, "after": after},
        {"row": "ume-res", "before": None, "after": None},
    ]
    figure = tokens_figure({**full, "heterogeneity": {"questions": 9, "rows": told}})
    assert figure is not None and len(figure.axes) == 5
    gap = figure.axes[0]
    assert [label.get_text() for label in gap.get_yticklabels()] == ["concat", "ume"]
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in gap.lines]
    assert ([1.5, 2.5], [0, 0]) in lines and ([2.0, 0.5], [1, 1]) in lines and ([0.5], [1]) in lines
    assert tokens_figure({**full, "heterogeneity": {"unavailable": "gone"}}) is None
    assert tokens_figure({**full, "heterogeneity": None}) is None


def test_curves_need_more_than_one_epoch() -> None:
    one = [("a", [{"epoch": 1, "loss": 2.0}])]
    assert curves_figure(one) is None
    held = [("a", [{"epoch": 1, "loss": 2.0, "held_out": 3.0}, {"epoch": 2, "loss": 1.0, "held_out": 4.0}])]
    assert len(curves_figure(held).axes) == 2  # type: ignore[union-attr]


def test_files_are_three_and_the_same_each_time(full: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(accuracy_figure(full), tmp_path, name)
    for kind in ("svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1000
