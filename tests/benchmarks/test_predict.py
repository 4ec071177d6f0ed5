"""benchmarks/predict.py runs at a tiny size and tells encoder and fusion apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "predict.py"


def test_runs_and_writes_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "predict.json"
    options = ["--tiny", "--methods", "text-only,ume", "--width", "8", "--repeats", "2", "--json", str(out)]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fusion ms" in done.stdout
    found = json.loads(out.read_text())["methods"]
    assert set(found) == {"text-only", "ume"}
    ms = found["ume"]["ms"]
    assert ms["total"] >= ms["fusion"] > 0 and {"text", "image"} < set(ms)
    assert found["ume"]["share"] == pytest.approx(ms["fusion"] / ms["total"])
    assert found["ume"]["encoder_bytes"] > 0 and found["ume"]["head_bytes"] > found["text-only"]["head_bytes"]
