"""What a URL means, and reading by name and range from folders and fsspec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest

from umecache.errors import MissingExtra, UmecacheError, UsageError
from umecache.sharing import remotes
from umecache.sharing.http import HttpRemote
from umecache.sharing.remotes import (
    FolderRemote,
    FsspecRemote,
    Remote,
    RemoteFailed,
    RemoteMissing,
    open_remote,
    read_ranges,
    read_small,
)
from umecache.stores import StoreDamaged

DATA = bytes(range(256)) * 50


@pytest.fixture(params=["folder", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        (tmp_path / "a").mkdir()
        (tmp_path / "a/b").write_bytes(DATA)
        yield open_remote(str(tmp_path))
        return
    found = open_remote("memory://reading")
    found.write({"a/b": DATA})
    yield found
    fsspec.filesystem("memory").store.clear()


def test_reading(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "BLOCK", 1000)  # many blocks
    assert b"".join(remote.stream("a/b")) == DATA
    assert b"".join(remote.stream("a/b", 10, 4000)) == DATA[10:4000]
    assert b"".join(remote.stream("a/b", 12000)) == DATA[12000:]
    assert b"".join(remote.below("a").stream("b", len(DATA))) == b""
    assert remote.size("a/b") == len(DATA)
    assert remote.size("a/c") is None
    assert read_ranges(remote, "a/b", [(0, 3), (5000, 5001)]) == [DATA[:3], DATA[5000:5001]]
    assert read_small(remote, "a/b", len(DATA)) == DATA
    with pytest.raises(RemoteFailed, match="far more"):
        read_small(remote, "a/b", len(DATA) - 1)
    with pytest.raises(RemoteFailed, match="cut short"):
        read_ranges(remote, "a/b", [(0, len(DATA) + 1)])
    with pytest.raises(RemoteMissing, match="a/c"):
        read_small(remote, "a/c", 10)


def test_a_folder_ends_at_its_walls(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "served").mkdir()
    remote = FolderRemote(tmp_path / "served")
    for name in ("../secret", "/etc/passwd"):
        with pytest.raises(StoreDamaged, match="outside"):
            read_small(remote, name, 10)
    with pytest.raises(TypeError):
        remote.write({"x": b""})


def test_writing_and_removing(tmp_path: Path) -> None:
    remote = open_remote("memory://writing")
    assert isinstance(remote, FsspecRemote)
    (tmp_path / "f").write_bytes(DATA)
    remote.write({"x/y": tmp_path / "f", "z": b"z"})
    assert read_small(remote, "x/y", 1 << 20) == DATA
    remote.remove(["z", "never was"])
    assert remote.size("z") is None


def test_what_a_url_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_remote("https://example.org/x"), HttpRemote)
    folder = open_remote(f"file://{tmp_path}")
    assert isinstance(folder, FolderRemote)
    assert folder.folder == tmp_path
    with pytest.raises(UsageError, match="nowhere that stores can be kept"):
        open_remote("ftp://example.org/x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for url, extra in (("s3://b/x", "s3"), ("gs://b/x", "gs"), ("ssh://h/x", "ssh"), ("hf://datasets/a/b", "hub")):
        with pytest.raises(MissingExtra, match=rf"umecache\[{extra}\]"):
            open_remote(url)


def test_whatever_a_library_raises_is_said_in_words() -> None:
    class Broken:
        def cat_file(self, path: str, start: int, end: int) -> bytes:
            raise RuntimeError("no credentials")

    remote = FsspecRemote("s3://b", Broken(), "b")
    with pytest.raises(RemoteFailed, match="RuntimeError: no credentials") as caught:
        list(remote.stream("x", 0, 5))
    assert isinstance(caught.value, UmecacheError)
    assert caught.value.exit_status == 1
    for told, advice in ((PermissionError("no"), "credentials"), (OSError("timed out"), "same command again")):
        Broken.cat_file = lambda *args, told=told, **said: (_ for _ in ()).throw(told)  # type: ignore[method-assign]
        with pytest.raises(RemoteFailed) as caught:
            list(remote.stream("x", 0, 5))
        assert advice in caught.value.next
