"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread each: tests run side by side, and torch's own threads would only fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network is wrong


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights; tests that need it are skipped with a reason where it is absent."""
    folder = Path(os.environ.get("UMECACHE_SHARED") or Path(__file__).parents[2] / "shared").resolve()
    if not (folder / "data" / "vqa-v2-mini").is_dir():
        pytest.skip(f"real data not found at {folder} (set UMECACHE_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's own UMECACHE_HOME."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("UMECACHE_HOME", str(home))
    return home
