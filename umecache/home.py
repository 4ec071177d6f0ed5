"""Where things live when no path is said: `UMECACHE_HOME`, by default `~/.cache/umecache`."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `data/`, `stores/` and `runs/`; not created here."""
    return Path(os.environ.get("UMECACHE_HOME") or Path.home() / ".cache" / "umecache").expanduser()


def data_home() -> Path:
    """Downloaded data sets, one folder each."""
    return home() / "data"


def stores_home() -> Path:
    """Feature stores: `DATASET/MODEL-RECIPE8/SPLIT`."""
    return home() / "stores"


def runs_home() -> Path:
    """Trained fusion runs."""
    return home() / "runs"


def dataset_stores(dataset: str, limit: int | None = None) -> Path:
    """The stores of one data set; those of its first `limit` questions are kept apart from those of the whole."""
    return stores_home() / (dataset if limit is None else f"{dataset}-first{limit}")
