"""The ways in which Python code can name a store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from umecache.stores import open_store
from umecache.training.refs import store_ref


def test_how_a_store_can_be_named(sample_run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sample_run.stores["text"]
    assert store_ref("minilm") == "minilm"
    assert store_ref(folder) == str(folder)
    assert store_ref(open_store(folder / "train")) == str(folder), "the other splits lie beside it"
    made = SimpleNamespace(path=str(folder / "val"), split="val")
    assert (store_ref(made), store_ref(SimpleNamespace(path="one", split="val"))) == (
        str(folder),
        str(Path("one").absolute()),
    )
    monkeypatch.chdir(tmp_path)
    assert store_ref(Path("minilm")) == str(tmp_path / "minilm"), "a Path is a path, not a model"
