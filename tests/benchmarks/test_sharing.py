"""benchmarks/sharing.py, small and into memory: what it counts, and against what."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import fsspec
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sharing.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_sharing", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TOKENS", 5)
    return module


def test_every_way(bench: ModuleType, tmp_path: Path) -> None:
    try:
        found = bench.measure("memory://bench", 64, tmp_path)
    finally:
        fsspec.filesystem("memory").store.clear()
    ways = found["ways"]
    assert found["bytes"] > 64 * 5 * 768 * 2
    for name in ("fsspec put", "push", "fsspec get", "pull", "cp, then sync", "push to a folder"):
        assert ways[name]["bytes"] == found["bytes"], name
    assert ways["push again"]["bytes"] == 0
    assert ways["push"]["ratio"] == pytest.approx(ways["fsspec put"]["seconds"] / ways["push"]["seconds"], rel=0.3)
    assert ways["pull 5% of the ids"]["bytes"] < found["bytes"] / 2
    assert ways["push to a folder"]["against"] == "cp"
