"""Every method has a cost, and every cost a method; that they are true is tested with the methods (`contract.py`)."""

from __future__ import annotations

from pathlib import Path

from umecache.fusion.cost import figures
from umecache.fusion.costs import COSTS
from umecache.fusion.registry import METHODS

DIMS, TOKENS = {"text": 384, "image": 1280}, {"text": 20, "image": 49}


def test_every_method_has_one() -> None:
    assert list(COSTS) == list(METHODS)


def test_symbols_are_known() -> None:
    for name in METHODS:
        found = figures(name, DIMS, TOKENS)
        assert min(found.parameters, found.macs, found.memory) > 0


def test_the_page_shows_them() -> None:
    """docs/methods.md: the same widths and tokens, every method."""
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    dims, tokens = {"text": 384, "image": 1280}, {"text": 20, "image": 49}
    for name in METHODS:
        found = figures(name, dims, tokens)
        row = f"| `{name}` | {found.parameters:,} | {found.macs / 1e6:,.2f} | {found.memory / 1e3:,.1f} |"
        assert row in page, row
