"""Where things live."""

from __future__ import annotations

from pathlib import Path

import pytest

from umecache.home import data_home, dataset_stores, home, runs_home, stores_home


def test_the_variable_moves_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UMECACHE_HOME", str(tmp_path / "lab"))
    assert home() == tmp_path / "lab"
    assert [data_home(), stores_home(), runs_home()] == [tmp_path / "lab" / d for d in ("data", "stores", "runs")]
    assert not home().exists()  # naming a place does not make it


def test_the_default_and_the_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UMECACHE_HOME")
    assert home() == Path.home() / ".cache" / "umecache"
    monkeypatch.setenv("UMECACHE_HOME", "~/ume")
    assert home() == Path.home() / "ume"


def test_limited_stores_are_kept_apart() -> None:
    assert dataset_stores("vqa", None) == stores_home() / "vqa"
    assert dataset_stores("vqa", 100) != dataset_stores("vqa", None)
