"""SIGTERM stops in words and leaves nothing half made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from umecache.cli.stopping import sigterm_stops
from umecache.errors import JobFailed


def test_sigterm_becomes_an_error_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(JobFailed, match="SIGTERM") as stopped, sigterm_stops(why="Nothing was kept."):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stopped.value.why == "Nothing was kept."
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("command", ["fuse", "compare"])
def test_a_stopped_training_leaves_no_folder_and_says_so(tiny: list[str], tmp_path: Path, command: str) -> None:
    out = tmp_path / "runs" / "run"
    argv = [sys.executable, "-m", "umecache", command, *tiny, "--epochs", "100000", "--devices", "cpu"]
    child = subprocess.Popen([*argv, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/.run.unfinished/run")):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        child.terminate()
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 1
    assert "Stopped by SIGTERM" in said and "Traceback" not in said
    assert list((tmp_path / "runs").iterdir()) == []
