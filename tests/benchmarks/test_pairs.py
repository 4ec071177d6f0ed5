"""benchmarks/pairs.py runs, and its forms agree: a ratio between different results would mean nothing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pairs.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_pairs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("weighted", [False, True])
def test_the_forms_agree(bench: ModuleType, weighted: bool) -> None:
    torch.manual_seed(0)
    a, b, c = (torch.randn(2, 9, 16) for _ in range(3))
    mask = torch.rand(2, 9) > 0.3
    w, bias = torch.randn(16) if weighted else None, torch.randn(())
    expected = bench.eager(a, b, c, mask, w, bias)
    torch.testing.assert_close(bench.implementation("tiled")(a, b, c, mask, w, bias), expected, rtol=1e-5, atol=1e-6)


def test_runs_and_writes_its_figures(tmp_path: Path) -> None:
    options = [
        "--tiny",
        "--impls",
        "tiled,eager",
        "--threads",
        "1",
        "--repeats",
        "1",
        "--json",
        str(tmp_path / "p.json"),
    ]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=True)
    assert "tiled" in done.stdout
    rows = json.loads((tmp_path / "p.json").read_text())["rows"]
    assert [row["impl"] for row in rows] == ["tiled", "eager"]
    assert rows[0]["times_eager"] == pytest.approx(rows[1]["seconds"] / rows[0]["seconds"])
    assert rows[1]["times_eager"] == 1
