"""Homes with faults: full, read-only, without locks, half shared."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from umecache.doctor import storage
from umecache.doctor.finding import Finding

MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:40 / /lab rw shared:1 - nfs4 server:/lab rw
24 23 0:41 / /lab/my\\040disk rw - tmpfs tmpfs rw
a line that is none
"""


def worst(findings: Iterable[Finding]) -> tuple[str, str, str]:
    found = sorted(findings, key=lambda each: ("FAIL", "WARN", "PASS").index(each.status))
    assert all(bool(each.remedy) == (each.status != "PASS") for each in found)
    return found[0].status, found[0].says, found[0].remedy


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home", "ext4"), ("/lab/ume", "nfs4"), ("/laboratory", "ext4"), ("/lab/my disk/x", "tmpfs")],
)
def test_file_systems(path: str, kind: str) -> None:
    assert storage.file_system(Path(path), MOUNTS) == kind
    assert storage.file_system(Path(path), "") == "unknown"


def test_kinds() -> None:
    assert worst(storage.check_kind("h", "tmpfs"))[0] == "WARN"
    assert worst(storage.check_kind("h", "nfs4"))[:2] == ("PASS", "a network or user-space file system (nfs4)")
    assert worst(storage.check_kind("h", "ext4"))[0] == "PASS"


@pytest.mark.parametrize(
    ("free", "inodes", "writes", "status"),
    [
        (1e12, 10**7, True, "PASS"),
        (5e9, 10**7, True, "WARN"),
        (1e8, 10**7, True, "FAIL"),
        (1e8, 10**7, False, "WARN"),
        (1e12, 500, True, "WARN"),
        (1e12, 0, True, "FAIL"),
        (1e12, None, True, "PASS"),  # btrfs and the like count none
    ],
)
def test_room(
    free: float, inodes: int | None, writes: bool, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    counted = SimpleNamespace(f_files=0 if inodes is None else 10**8, f_favail=inodes or 0)
    monkeypatch.setattr(storage.os, "statvfs", lambda path: counted)
    assert worst(storage.check_room("h", tmp_path, writes=writes))[0] == status


def test_a_good_home_is_left_as_it_was(tmp_path: Path) -> None:
    assert worst(storage.check_files("h", tmp_path))[0] == "PASS"
    home = tmp_path / "not" / "yet"
    assert {each.status for each in storage.check_home(home, writes=True)} <= {"PASS", "WARN"}
    assert list(tmp_path.iterdir()) == []


def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(storage.fcntl, "flock", none)
    status, says, remedy = worst(storage.check_files("h", tmp_path))
    assert (status, "locks are not kept" in says) == ("WARN", True)
    assert "HDF5_USE_FILE_LOCKING" in remedy
    monkeypatch.setattr(storage.fcntl, "flock", lambda descriptor, operation: None)  # everybody gets it
    assert worst(storage.check_files("h", tmp_path))[0] == "WARN"


def test_without_exclusive_creation_or_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(storage.os, "open", lambda path, flags, *a, **k: real(path, flags & ~os.O_EXCL, *a, **k))
    assert "can create the same file" in worst(storage.check_files("h", tmp_path))[1]
    monkeypatch.undo()

    def full(self: Path, target: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    status, says, _ = worst(storage.check_files("h", tmp_path))
    assert (status, says) == ("FAIL", "files can't be made and renamed: No space left on device")


def test_homes_that_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").mkdir()
    may = {os.W_OK | os.X_OK: False, os.R_OK | os.X_OK: True}
    monkeypatch.setattr(storage.os, "access", lambda path, mode: may[mode])
    assert worst(storage.check_home(tmp_path / "lab", writes=True))[0] == "FAIL"
    found = list(storage.check_home(tmp_path / "lab", writes=False))
    assert "read-only for you" in found[-1].says and found[-1].status == "PASS"
    may[os.R_OK | os.X_OK] = False
    assert worst(storage.check_home(tmp_path / "lab", writes=False))[1] == "can't be read"
    assert worst(storage.check_home(tmp_path / "gone", writes=False))[0] == "WARN"


@pytest.mark.parametrize(
    ("mode", "status", "remedy"),
    [(0o755, "PASS", ""), (0o2775, "PASS", ""), (0o775, "WARN", "chmod g+s"), (0o2755, "WARN", "chmod g+w")],
)
def test_groups(mode: int, status: str, remedy: str, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    found = worst(storage.check_group("h", tmp_path))
    assert (found[0], found[2][:9]) == (status, remedy)
