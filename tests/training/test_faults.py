"""A comparison, killed at any step and started again, ends with the files of an uninterrupted one.

UMECACHE_FAULT_ROUNDS=100 pytest tests/training/test_faults.py      # the long form
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = os.environ.get("UMECACHE_FAULT_ROUNDS", "4")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the supervisor forks")
def test_killed_at_any_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.faults", str(tmp_path), "--rounds", ROUNDS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200, check=False)
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert tally["rounds"] == min(int(ROUNDS), tally["steps"]) and tally["killed"] >= tally["rounds"] * 0.7
    assert tally["passes_kept"] > 0, "no kill fell between two passes"
