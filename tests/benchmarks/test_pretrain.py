"""benchmarks/pretrain.py: with and without pre-training, on the sample."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_runs_of_equal_labels_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_options: list[str], script: Callable[[str], ModuleType]
) -> None:
    bench = script("pretrain")
    out = tmp_path / "out.json"
    runs = ["--methods", "product", "--labels", "60", "--orders", "2", "--seeds", "1", "--epochs", "2"]
    monkeypatch.setattr(
        "sys.argv",
        ["pretrain.py", *sample_options, "--json", str(out), *runs, "--pretrain-epochs", "1", "--width", "32"],
    )
    bench.main()
    document = json.loads(out.read_text())
    (row,) = document["rows"]
    draws = row["draws"]
    assert len(draws["scratch"]) == len(draws["pretrained"]) == 2
    apart = [after[0] - before[0] for before, after in zip(draws["scratch"], draws["pretrained"], strict=True)]
    assert row["difference"] == pytest.approx(statistics.mean(apart), abs=0.005)
    assert document["pretraining"]["product"]["epoch"] == 1
