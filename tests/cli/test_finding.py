"""Which store a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.toy import Toy, write
from umecache.cli.finding import find_folder, find_store, size_words
from umecache.errors import UsageError

TOY = Toy.make()


def test_by_path_and_below_the_home(private_home: Path, tmp_path: Path) -> None:
    place = private_home / "stores/vqa/toy/val"
    write(place, TOY)
    assert find_store(str(place)) == find_store("vqa/toy/val") == find_store("vqa") == place
    assert find_folder("vqa/toy") == place.parent
    write(place.parent / "train", TOY)
    with pytest.raises(UsageError, match="holds 2 stores"):
        find_store("vqa/toy")
    with pytest.raises(UsageError, match="There is no store nothing"):
        find_store("nothing")
    assert find_store(str(tmp_path)) == tmp_path  # whoever opens it says what it is not


def test_sizes() -> None:
    assert [size_words(n) for n in (None, 7, 7e3, 7.25e6, 7e9, 7e15)] == [
        "?", "7 B", "7.0 kB", "7.2 MB", "7.0 GB", "7000.0 TB",
    ]  # fmt: skip


def test_what_may_not_be_read(private_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
    with pytest.raises(UsageError, match="may not read") as caught:
        find_store(str(tmp_path / "locked"))
    assert "chmod" in caught.value.next
