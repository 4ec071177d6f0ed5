"""Where things live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from umecache.errors import UsageError
from umecache.home import (
    cache_home,
    data_home,
    dataset_stores,
    find_data,
    find_run,
    home,
    homes,
    runs_home,
    stores_home,
    stores_homes,
)


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


def test_several_homes_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, lab = tmp_path / "own", tmp_path / "lab"
    (lab / "data/daquar").mkdir(parents=True)
    monkeypatch.setenv("UMECACHE_HOME", f"{own}::{lab}:{own}")
    assert homes() == (own, lab)
    assert stores_homes() == (own / "stores", lab / "stores")
    assert home() == own  # it can be made
    assert find_data("daquar") == lab / "data/daquar"
    assert find_data("vqa") == own / "data/vqa"
    assert dataset_stores("vqa", 5, below=lab / "stores") == lab / "stores/vqa-first5"


def test_writing_goes_to_the_first_that_may_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UMECACHE_HOME", f"/proc/nowhere:{tmp_path / 'mine'}")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith("/proc"))
    assert home() == tmp_path / "mine"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert home() == Path("/proc/nowhere")  # whoever writes there will say why it can't be


def test_what_is_read_from_afar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_home() == home() / "cache"
    monkeypatch.setenv("UMECACHE_CACHE", str(tmp_path))
    assert cache_home() == tmp_path


def test_runs_are_found_where_they_lie_and_below_any_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, lab = tmp_path / "own", tmp_path / "lab"
    (lab / "runs/daquar/ume").mkdir(parents=True)
    monkeypatch.setenv("UMECACHE_HOME", f"{own}:{lab}")
    monkeypatch.chdir(tmp_path)
    assert find_run("daquar/ume") == lab / "runs/daquar/ume"
    (tmp_path / "daquar/ume").mkdir(parents=True)
    assert find_run("daquar/ume") == Path("daquar/ume")  # what lies here goes first
    with pytest.raises(UsageError, match=r"There is no run ume\. .*lab/runs\. The newest there: daquar/ume"):
        find_run("ume")
    monkeypatch.setenv("UMECACHE_HOME", str(own))
    with pytest.raises(UsageError, match="umecache fuse makes one"):
        find_run("ume")
