"""benchmarks/order.py: the same runs in several orders, on the sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_runs_of_equal_seeds_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_options: list[str], script: Callable[[str], ModuleType]
) -> None:
    bench = script("order")
    out = tmp_path / "out.json"
    runs = ["--methods", "product", "--cuts", "1,20", "--orders", "2", "--seeds", "1", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["order.py", *sample_options, "--json", str(out), *runs])
    bench.main()
    document = json.loads(out.read_text())
    rows = {row["order"]: row for row in document["rows"]}
    assert rows["full"]["difference"] == 0
    assert rows["1 windows"]["images_of_a_window"] == document["images"]
    assert rows["20 windows"]["images_of_a_window"] < 5
    assert rows["20 windows"]["standard_error"] >= 0
