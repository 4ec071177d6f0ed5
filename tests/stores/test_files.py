"""Files that are written whole, and paths that stay inside."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umecache.stores import StoreDamaged
from umecache.stores import files as module
from umecache.stores.files import (
    canonical,
    inside,
    make_dirs,
    map_array,
    map_file,
    parse_json,
    pretty,
    read_json,
    replace_file,
    share,
    size_of,
    walk,
    write_all,
    write_synced,
)


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:at_once]), at))
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    write_all(fd, np.arange(10, dtype=np.int16), 4)
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == bytes(4) + np.arange(10, dtype=np.int16).tobytes()


def test_a_device_that_takes_nothing_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="no more") as caught:
        write_all(0, b"x", 0)
    assert caught.value.errno == errno.ENOSPC


def test_replacing_is_atomic_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real = Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: steps.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name[:4]}")
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), real(self, to))[1])
    (tmp_path / "scratch").mkdir()
    (tmp_path / "data").mkdir()
    replace_file(tmp_path / "data" / "file", b"new", scratch=tmp_path / "scratch")
    assert steps == ["fsync file", "rename", "fsync data"]
    assert (tmp_path / "data" / "file").read_bytes() == b"new"
    assert not list((tmp_path / "scratch").iterdir())


def test_a_failed_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def full(fd: int, data: Any, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "file", b"new", scratch=tmp_path)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "a\0b", "..", "a/.."])
def test_paths_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreDamaged, match="outside itself"):
        inside(tmp_path, name)


def test_links_that_leave_are_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "real").mkdir(parents=True)
    (store / "out").symlink_to("/etc")
    (store / "in").symlink_to("real")
    (store / "loop").symlink_to("loop")
    for name in ("out", "out/passwd", "loop", "loop/x"):
        with pytest.raises(StoreDamaged, match="outside itself"):
            inside(store, name)
    assert inside(store, "in/file") == store / "in" / "file"
    (tmp_path / "link").symlink_to(store)
    assert inside(tmp_path / "link", "real/x")  # the way to the store itself is the user's business


def test_what_is_no_file_has_no_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert size_of(tmp_path / "pipe") is None
    assert size_of(tmp_path) is None
    assert size_of(tmp_path / "none") is None
    assert size_of(tmp_path / ("x" * 5000)) is None
    with pytest.raises(StoreDamaged, match="missing"):
        map_file(tmp_path / "pipe")


def test_maps_are_read_only_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(np.arange(5, dtype="<i8").tobytes())
    values = map_array(tmp_path / "f", "<i8", 3, 16)
    assert values.tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1
    for count, offset in ((6, 0), (1, 40), (1, -8), (-1, 0), (2**61, 0)):
        with pytest.raises(StoreDamaged, match="cut short"):
            map_array(tmp_path / "f", "<i8", count, offset)
    (tmp_path / "empty").touch()
    assert map_array(tmp_path / "empty", "<i8", 0).size == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=range(9),
)
def test_malformed_json_is_one_clear_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"no valid JSON|no JSON object"):
        parse_json(data, tmp_path / "manifest.json")


def test_json_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.json").write_bytes(b'{"a": 1}')
    monkeypatch.setattr(module, "MAX_JSON", 4)
    with pytest.raises(StoreDamaged, match="far more"):
        read_json(tmp_path / "m.json")


def test_the_two_forms_of_json() -> None:
    document = {"b": [1, 2], "a": {"é": None, "list": [{"x": 1}, {"x": "y" * 120}]}}
    assert canonical(document).decode().startswith('{"a":{"list":[{"x":1},')
    text = pretty(document).decode()
    assert json.loads(text) == document
    assert text.startswith('{\n  "b": [1, 2],\n  "a": {')
    assert text.endswith("}\n")
    assert pretty({}) == b"{}\n"


def test_walking_sees_all_but_the_work_folder(tmp_path: Path) -> None:
    for name in ("b/c", "a", ".writing/claims/x", ".writing-12-ab/y", ".nfs0001", ".hidden"):
        make_dirs((tmp_path / name).parent)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("b")
    assert list(walk(tmp_path)) == [".hidden", "a", "b/c", "link"]


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_what_lies_in_a_group_s_folder_is_the_group_s(tmp_path: Path, umask: int) -> None:
    shared, private = tmp_path / "lab", tmp_path / "own"
    shared.mkdir()
    private.mkdir(mode=0o755)
    shared.chmod(0o2775)
    before = os.umask(umask)
    try:
        for root in (shared, private):
            make_dirs(root / "a/b")
            write_synced(root / "a/b/f", b"")
    finally:
        os.umask(before)
    for path, wanted in (("a", 0o2070), ("a/b", 0o2070), ("a/b/f", 0o060)):
        assert (shared / path).stat().st_mode & 0o2070 == wanted
    assert not (private / "a/b/f").stat().st_mode & 0o020 or umask == 0o002


def test_another_group_is_given_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "f").chmod(0o600)
    tmp_path.chmod(0o775)
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        values = list(found)
        values[5] += path.name == "f"  # its maker's own group
        return os.stat_result(values)

    monkeypatch.setattr(Path, "stat", stat)
    share(tmp_path / "f")
    assert real(tmp_path / "f").st_mode & 0o777 == 0o600
