"""benchmarks/fuse.py runs at a tiny size, and both ways of doing the work give the same heads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuse.py"
TINY = ["--tiny", "--questions", "48", "--width", "8", "--batch-size", "16", "--methods", "product,attention"]


def figures_of(what: str, out: Path, *options: str) -> Any:
    command = [sys.executable, str(SCRIPT), what, *TINY, *options, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())[what]


def test_an_epoch_from_the_store_is_the_epoch_with_the_encoders_in_the_loop(tmp_path: Path) -> None:
    found = figures_of("epoch", tmp_path / "epoch.json")
    assert set(found) == {"product", "attention"}
    for method in found.values():
        assert method["losses"][0] == pytest.approx(method["losses"][1], rel=1e-3)
        assert method["ratio"] == pytest.approx(method["loop_seconds"] / method["store_seconds"])


def test_one_pass_reads_what_one_run_reads(tmp_path: Path) -> None:
    found = figures_of("heads", tmp_path / "heads.json", "--seeds", "2", "--residency", "store", "--cold")
    assert found["heads"] == 4 and found["same_losses"]
    assert found["bytes"] == pytest.approx(1 / 4)
    assert 0 <= found["waited"] <= 1 and found["time"] > 0


def test_an_epoch_is_more_than_its_attention_and_pairs(tmp_path: Path) -> None:
    found = figures_of("core", tmp_path / "core.json", "--methods", "evc,ume", "--clock", "cpu")
    assert set(found) == {"evc", "ume"}
    assert all(method["epoch_seconds"] > method["core_seconds"] > 0 for method in found.values())
