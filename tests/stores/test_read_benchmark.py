"""The read benchmark runs and reports ratios."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("text", [False, True])
def test_it_runs(tmp_path: Path, text: bool) -> None:
    out = tmp_path / "read.json"
    command = [sys.executable, "benchmarks/read.py", "--records", "33", "--repeats", "1", "--json", str(out)]
    command += ["--seconds", "0.05", "--workers", "2"]
    command += ["--folder", str(tmp_path), *(["--text"] if text else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["ratio"]["single"]["np.memmap"] == 1
    assert found["ratio"]["batches"]["one memcpy"] == 1
    assert found["ratio"]["workers"]["ours, zarr, 1 process"] == 1
    for part in ("single", "batches", "cold"):
        # Other libraries are compared where they are installed.
        assert set(found["ratio"][part]) >= {"np.memmap", "ours, zarr", "ours, hdf5", "h5py", "zarr-python"}
    assert "ratio" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["read.json"], "it tidies up"
