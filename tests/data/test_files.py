"""Text files are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from umecache.data.files import clear_temporary, write_bytes, write_text
from umecache.errors import JobFailed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    write_text(path, "é\n")
    write_text(path, "two\n")
    assert path.read_bytes() == b"two\n"
    assert names(path.parent) == ["a.json"]


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file" / "a.json"):
        with pytest.raises(JobFailed, match="can't be written") as caught:
            write_text(path, "x")
        assert caught.value.exit_status == 1
    assert names(tmp_path) == ["file", "folder"]


def test_what_a_killed_writer_left_goes_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"\x00")
    (tmp_path / f".a.bin.{'0f' * 16}").write_bytes(b"half")
    (tmp_path / ".gitignore").touch()
    (tmp_path / ".a.bin.old").touch()
    clear_temporary(tmp_path)
    assert names(tmp_path) == [".a.bin.old", ".gitignore", "a.bin"]
    clear_temporary(tmp_path / "absent")
