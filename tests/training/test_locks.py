"""Locks say who is at work, and go with their process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from umecache.training.locks import Taken, held, lock

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path):
        assert held(path)
        with pytest.raises(Taken), lock(path):
            pass
    assert not held(path)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    assert held(path)
    child.kill()
    child.communicate()
    assert not held(path)
