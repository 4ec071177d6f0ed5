"""Costs as expressions: arithmetic, what is printed, what is computed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from umecache.fusion.cost import Expr, as_expr, figures, symbol, symbols

D, N, rank = symbol("D"), symbol("N"), symbol("rank")


@pytest.mark.parametrize(
    ("expr", "said", "value"),
    [
        (D + 3 * N * D**2 + 2, "D + 3 N D^2 + 2", 4 + 3 * 5 * 16 + 2),
        (2 * rank * D**2 - D * N, "2 rank D^2 - N D", 2 * 3 * 16 - 20),
        ((D + N) * (D - N), "D^2 - N^2", 16 - 25),
        (N * (N + 1) / 2, "1/2 N^2 + 1/2 N", 15),
        (D**2 / rank, "D^2 / rank", round(16 / 3)),
        (D / rank**2 * rank, "D / rank", 1),
        (-1 * D + 1, "-D + 1", -3),
        (D - D, "0", 0),
        (as_expr(1), "1", 1),
    ],
)
def test_arithmetic(expr: Expr, said: str, value: int) -> None:
    assert str(expr) == said
    assert expr({"D": 4, "N": 5, "rank": 3}) == value


def test_symbols() -> None:
    dims, tokens = {"image": 7, "text": 5}, {"image": 4, "text": 3, "audio": 9}
    found = symbols(dims, tokens, 6, {"pairs": "upper", "heads": 2, "residual": True, "dropout": 0.1})
    assert found == {
        "D": 6,
        "M": 2,
        "I": 12,
        "N": 7,
        "X": 7 * 4 + 5 * 3,
        "S": 16 + 9,
        "P": 28,
        "G": 3,
        "heads": 2,
        "residual": 1,
        "gates": 1,
        "outer": 1,
    }
    assert symbols(dims, tokens, 6, {"pairs": "all"})["P"] == 49
    assert symbols(dims, tokens, 6, {"pairs": "cross"})["P"] == 12
    assert symbols({"audio": 2, "image": 7}, tokens, 6, {})["G"] == 9
    three = symbols({**dims, "audio": 2}, tokens, 6, {"inner": 4})
    assert (three["gates"], three["outer"]) == (3, 125)


def test_the_page_of_the_method() -> None:
    """The table of the source: N = 597, D = 768, per sample."""
    dims, tokens = {"text": 768, "image": 768}, {"text": 20, "image": 577}
    attention, evc = (figures(name, dims, tokens, width=768, pairs="all") for name in ("attention", "evc"))
    maps, pairs = 597 * 3 * 768**2, 597**2 * 768
    assert evc.macs - attention.macs == maps + 2 * pairs
    assert evc.memory < 10 * 597 * 768, "no pair tensor"


def test_controls_count_what_they_use() -> None:
    dims = {"text": 5, "image": 7}
    alone = figures("text-only", {"text": 5}, {"text": 3}, width=6)
    assert figures("text-only", dims, {"text": 3, "image": 4}, width=6) == alone
    assert figures("text-only", dims, {"text": 3, "image": 4}) != alone, "the method's own width"


def test_costs_are_light() -> None:
    code = "import sys, umecache.fusion.costs, umecache.fusion.cost; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
