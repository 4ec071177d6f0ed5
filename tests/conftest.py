"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

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


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The built-in sample, small: its data folder, both stores, and a run of `concat` with two seeds."""
    from umecache.data.sample import write_sample
    from umecache.extraction.config import ExtractConfig, ModelRequest
    from umecache.extraction.extract import extract
    from umecache.training.config import FuseConfig
    from umecache.training.fuse import fuse

    folder = tmp_path_factory.mktemp("sample")
    data = write_sample(folder / "data", images=100, seed=0)
    stores = {}
    for name in ("text", "image"):
        stores[name] = folder / "stores" / name
        request = ModelRequest(name=f"sample-{name}")
        extract(ExtractConfig(models=(request,), data=str(data), store=stores[name], device="cpu", workers=1))
    config = FuseConfig(
        data=str(data),
        text=str(stores["text"]),
        image=str(stores["image"]),
        method="concat",
        width=16,
        epochs=2,
        seeds=(0, 1),
        device="cpu",
        out=str(folder / "run"),
    )
    return SimpleNamespace(data=data, stores=stores, path=fuse(config).path)
