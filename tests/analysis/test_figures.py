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
    growth_figure,
    inline_svg,
    save,
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
    assert growth_figure({**full, "rows": rows}) is None


def test_growth_has_the_slopes_it_talks_of(full: dict[str, Any]) -> None:
    figure = growth_figure(full)
    assert figure is not None
    lines = {str(line.get_label()).split(":")[0]: line.get_ydata()[-2:] for line in figure.axes[0].lines[:3]}
    ratio = {name: ends[1] / ends[0] for name, ends in lines.items()}
    assert ratio["concat"] < 2.1 < 2.5 < ratio["ume"] < ratio["simple-pair"] < 4.1


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
