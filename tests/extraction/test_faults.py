"""A real extraction, killed at random and started again, ends with the bytes of an uninterrupted one.

UMECACHE_FAULT_ROUNDS=100 pytest tests/extraction/test_faults.py      # the long form
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
@pytest.mark.parametrize("store_format", ["zarr", "hdf5"])
def test_killed_at_random_moments(tmp_path: Path, store_format: str) -> None:
    command = [sys.executable, "-m", "tests.extraction.faults", str(tmp_path), "--rounds", ROUNDS]
    done = subprocess.run(
        [*command, "--format", store_format], cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert tally["killed"] >= int(ROUNDS)
    assert tally["partial"] > 0, "every kill fell before the first store or after the last"
