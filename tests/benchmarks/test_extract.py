"""benchmarks/extract.py runs at a tiny size, and its three ways encode the same inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "extract.py"


def test_runs_and_writes_its_figures(tmp_path: Path) -> None:
    options = ["--image", "sample-image", "--text", "sample-text", "--weights", "", "--limit", "30", "--repeats", "1"]
    options += ["--batch-size", "8", "--json", str(tmp_path / "e.json")]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    image, text = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert (image["modality"], text["modality"]) == ("image", "text")
    assert "sample-image" in done.stdout
    for row in (image, text):
        rates = row["items_per_second"]
        assert set(rates) == {"bare", "umecache", "loop"}
        assert row["of_bare"] == pytest.approx(rates["umecache"] / rates["bare"])
        assert row["times_loop"] == pytest.approx(rates["umecache"] / rates["loop"])
        assert row["items"] <= row["asked"] == 30
