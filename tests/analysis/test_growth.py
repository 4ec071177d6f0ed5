"""Cost against N: measured figures where there are some, counted ones labelled as counted."""

from __future__ import annotations

from typing import Any

import pytest

from umecache.analysis.evidence import read_document
from umecache.analysis.figures import inline_svg
from umecache.analysis.growth import caption, growth_figure, growth_table


def form(name: str, power: int, upto: int) -> dict[str, Any]:
    counts = [n for n in (64, 128, 256, 512) if n <= upto]
    points = [{"tokens": n, "seconds": 1e-6 * n**2, "bytes": 100 * n**power} for n in counts]
    stopped = None if upto == 512 else f"a pass with {2 * upto} tokens would take more than 1 s"
    return {"form": name, "points": points, "slopes": {"seconds": 2.0, "bytes": float(power)}, "stopped": stopped}


@pytest.fixture
def full(finished: Any) -> dict[str, Any]:
    told = {
        "width": 256, "device": "A processor <1>", "threads": 2, "cores": 4, "load": 0.1, "torch": "2.9", "took": 9.0,
        "date": "2026-01-01", "forms": [form("dense", 2, 256), form("kept", 2, 256), form("cpu", 1, 512)],
    }  # fmt: skip
    return {**read_document(finished[0]), "measured_cost": told}


def test_counted_growth_has_the_slopes_it_talks_of(full: dict[str, Any]) -> None:
    counted = {**full, "measured_cost": None}
    figure = growth_figure(counted)
    assert figure is not None
    lines = {
        str(line.get_label()).split(":")[0]: line.get_ydata()[-2:]
        for line in figure.axes[0].lines
        if ":" in str(line.get_label())
    }
    ratio = {name: ends[1] / ends[0] for name, ends in lines.items()}
    assert ratio["concat"] < 2.1 < 2.5 < ratio["ume"] < ratio["simple-pair"] < 4.1
    assert "Counted, not timed" in caption(counted) and "counted" in inline_svg(figure, "")
    assert growth_table(counted) is None


def test_without_token_counts_nothing_is_counted(full: dict[str, Any]) -> None:
    rows = [{**row, "tokens": None} for row in full["rows"]]
    assert growth_figure({**full, "measured_cost": None, "rows": rows}) is None
    assert growth_figure({**full, "rows": rows}) is not None


def test_measured_lines_end_where_measuring_did_and_go_on_dotted(full: dict[str, Any]) -> None:
    figure = growth_figure(full)
    assert figure is not None and len(figure.axes) == 2 and caption(full).startswith("Measured")
    named = {str(line.get_label()): line for line in figure.axes[1].lines}
    dense = named["a map per pair: N^2.0"]
    assert list(dense.get_xdata()) == [64, 128, 256]
    assert list(dense.get_ydata())[-1] == pytest.approx(1e-6 * 100 * 256**2)
    dotted = [line for line in figure.axes[1].lines if line.get_linestyle() == ":"]
    assert [list(line.get_xdata()) for line in dotted] == [[256, 512], [256, 512]]
    assert list(dotted[0].get_ydata())[1] == pytest.approx(1e-6 * 100 * 512**2)
    assert "C kernel: N^1.0" in named


def test_the_table_has_every_figure_and_dashes_where_nothing_was_measured(full: dict[str, Any]) -> None:
    table = growth_table(full)
    assert table is not None
    assert [row["N"] for row in table.rows] == [64, 128, 256, 512]
    assert [column.name for column in table.columns] == [
        "N", "a map per pair, ms", "pairs kept, ms", "C kernel, ms", "a map per pair, MB", "pairs kept, MB",
        "C kernel, MB",
    ]  # fmt: skip
    assert table.cells(table.rows[0]) == ["64", "4.1", "4.1", "4.1", "0.4", "0.4", "0.0"]
    assert table.cells(table.rows[3]) == ["512", "–", "–", "262.1", "–", "–", "0.1"]
    assert "A processor <1>" in table.note and "A processor <1>" not in table.html()
    assert "A map per pair: a pass with 512 tokens would take more than 1 s." in table.note
    assert "8.62 G multiply-adds" in table.note  # 4 * 32,896 pairs * 256^2
