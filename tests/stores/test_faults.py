"""Killed at random, out of disk, racing: the store ends as if nothing had happened.

UMECACHE_FAULT_ROUNDS=100 pytest tests/stores/test_faults.py      # the long form; by default a few rounds each
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = os.environ.get("UMECACHE_FAULT_ROUNDS", "8")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the supervisor forks")


def supervise(folder: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.stores.faults", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "options",
    [("--format", "zarr"), ("--format", "hdf5", "--dtype", "int8"), ("--format", "zarr", "--writers", "3")],
    ids=" ".join,
)
def test_killed_at_random_moments(tmp_path: Path, options: tuple[str, ...]) -> None:
    tally = supervise(tmp_path, "--rounds", ROUNDS, *options)
    assert tally["killed"] > 0
    assert sum(tally["interrupted_with"][:6]) > 0, "kills fell between shards"


@pytest.mark.parametrize("options", [("--format", "zarr", "--limit", "1500"), ("--format", "hdf5", "--limit", "9000")])
def test_a_file_system_that_is_full_now_and_then(tmp_path: Path, options: tuple[str, ...]) -> None:
    tally = supervise(tmp_path, "--rounds", ROUNDS, "--seed", "1", *options)
    assert tally["full"] > 0


def test_racing_writers_encode_every_shard_once(tmp_path: Path) -> None:
    tally = supervise(tmp_path, "--rounds", "3", "--writers", "3", "--calm")
    assert tally["stores"] == 3
    assert tally["encoded"] == 3 * 6


@pytest.mark.parametrize("store_format", ["zarr", "hdf5"])
def test_eight_readers_of_a_store_that_is_being_written(tmp_path: Path, store_format: str) -> None:
    tally = supervise(tmp_path, "--rounds", "3", "--readers", "8", "--calm", "--format", store_format)
    assert tally["stores"] == 3
    assert tally["early"] > 8, "no reader came before the store was whole"
