"""benchmarks/stacked.py runs at a tiny size and tells what can't be stacked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "stacked.py"
TINY = ["--width", "8", "--classes", "5", "--batch-size", "4", "--seeds", "2", "--steps", "1", "--repeats", "1"]


def test_it_prints_a_ratio_or_why_there_is_none(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--methods", "concat,simple-pair", *TINY, "--json", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out").read_text())["methods"]
    assert found["concat"]["ratio"] == pytest.approx(
        found["concat"]["stacked_seconds"] / found["concat"]["alone_seconds"]
    )
    assert not found["simple-pair"]["stacked"] and "simple-pair can't be stacked" in done.stdout
