"""The entries; that they match their classes is tested in `test_registry.py`."""

from __future__ import annotations

import re
from pathlib import Path

from umecache.fusion.catalogue import METHODS


def test_names_can_be_typed() -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in METHODS)


def test_every_option_is_explained() -> None:
    for entry in METHODS.values():
        names = [option.name for option in entry.options]
        assert names[:2] == ["width", "dropout"]
        assert len(set(names)) == len(names)
        assert all(option.values and option.help for option in entry.options)


def test_controls_say_what_they_leave_out() -> None:
    assert all(entry.uses is not None for entry in METHODS.values() if entry.control)


def test_every_method_has_its_row_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    head, _, costs = page.partition("## Costs")
    for name in METHODS:
        assert f"\n| `{name}` | " in head
        assert f"\n| `{name}` | " in costs
