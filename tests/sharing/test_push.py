"""Pushing: to folders by one rename, elsewhere CHECKSUMS last; only what is new; damage is not spread."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.stores.toy import Toy, begin, tree, write
from umecache.errors import UsageError
from umecache.sharing.pull import pull
from umecache.sharing.push import push
from umecache.sharing.remotes import FsspecRemote, RemoteFailed
from umecache.stores import StoreDamaged, StoreMismatch, StoreMissing, open_store
from umecache.stores.verify import verify

URL = "memory://bucket/vit"


@pytest.fixture(autouse=True)
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def objects() -> dict[str, bytes]:
    """What lies at the URL."""
    system = fsspec.filesystem("memory")
    return {name.removeprefix("/bucket/vit/"): system.cat_file(name) for name in system.find("/bucket/vit")}


class Watched:
    """Counts what is written, and may break off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.fail: str | None = None
        real = FsspecRemote.write

        def write(remote: FsspecRemote, files: Mapping[str, Path | bytes]) -> None:
            if self.fail is not None and any(self.fail in name for name in files):
                raise RemoteFailed("The line is cut.")
            self.names += files
            real(remote, files)

        monkeypatch.setattr(FsspecRemote, "write", write)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_there_and_back(store: Path, tmp_path: Path, watched: Watched) -> None:
    (moved,) = push(store, URL)
    assert {name: data for name, data in objects().items() if name != "README.md"} == tree(store)
    assert watched.names[-2:] == ["CHECKSUMS", "README.md"]  # last of the store's files
    assert moved.bytes == sum(len(data) for data in tree(store).values())
    pull(URL, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store)


def test_again_sends_nothing(store: Path, watched: Watched) -> None:
    push(store, URL)
    watched.names.clear()
    (moved,) = push(store, URL)
    assert (moved.files, watched.names) == (0, [])


def test_stopped_and_run_again(store: Path, watched: Watched) -> None:
    watched.fail = "tokens/c/4/"
    with pytest.raises(RemoteFailed):
        push(store, URL, jobs=1)
    assert "CHECKSUMS" not in objects()
    with pytest.raises(StoreMissing):
        pull(URL, store.parent / "half")
    sent = {name for name in watched.names if "tokens/c" in name}
    assert sent
    watched.names, watched.fail = [], None
    push(store, URL)
    assert not sent & set(watched.names)
    assert {name: data for name, data in objects().items() if name != "README.md"} == tree(store)


def test_a_shard_cut_short_over_there_is_sent_again(store: Path, watched: Watched, memory: Any) -> None:
    watched.fail = "CHECKSUMS"
    with pytest.raises(RemoteFailed):
        push(store, URL)
    memory.pipe_file("/bucket/vit/tokens/c/2/0", b"short")
    watched.names, watched.fail = [], None
    push(store, URL)
    assert [name for name in watched.names if "tokens/c" in name] == ["tokens/c/2/0"]


def test_the_same_features_in_other_bytes(store: Path, toy: Toy, tmp_path: Path, watched: Watched) -> None:
    push(store, URL)
    other = tmp_path / "other"
    write(other, toy, format="hdf5")
    push(other, URL)
    assert {name: data for name, data in objects().items() if name != "README.md"} == tree(other)  # nothing stale stays


def test_another_store_is_there(store: Path, tmp_path: Path) -> None:
    push(store, URL)
    write(tmp_path / "other", Toy.make(seed=5))
    before = objects()
    with pytest.raises(StoreMismatch, match="Another store"):
        push(tmp_path / "other", URL)
    assert objects() == before


def test_damage_is_not_spread(store: Path, tmp_path: Path) -> None:
    file = store / "tokens/c/1/0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    for url in (URL, str(tmp_path / "there")):
        with pytest.raises(StoreDamaged, match="tokens/c/1/0"):
            push(store, url)
    assert "CHECKSUMS" not in objects()
    assert not (tmp_path / "there").exists()


def test_dry_run(store: Path, tmp_path: Path) -> None:
    (moved,) = push(store, URL, dry_run=True)
    assert moved.bytes == sum(len(data) for data in tree(store).values())
    assert objects() == {}
    push(store, str(tmp_path / "x/y"), dry_run=True)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("folder", [True, False])
def test_several_with_an_index(store: Path, toy: Toy, tmp_path: Path, folder: bool) -> None:
    write(store.parent / "train", toy)
    url = str(tmp_path / "lab/vit") if folder else URL
    push(store.parent, url, splits=["val"])
    push(store.parent, url, splits=["train"])
    moved = pull(url, tmp_path / "all")
    assert sorted(Path(each.target).name for each in moved) == ["train", "val"]
    assert tree(tmp_path / "all/val") == tree(store)
    text = (tmp_path / "lab/vit/stores.json").read_bytes() if folder else objects()["stores.json"]
    assert [row["path"] for row in json.loads(text)["stores"]] == ["train", "val"]


def test_an_index_that_leads_out(store: Path, tmp_path: Path, memory: Any) -> None:
    rows = [{"path": "../../evil", "split": "val"}]
    memory.pipe_file("/bucket/vit/stores.json", json.dumps({"stores": rows}).encode())
    with pytest.raises(StoreDamaged, match="outside itself"):
        pull(URL, tmp_path / "t")


def test_a_folder_with_its_card(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "lab/val"
    push(store, str(target), licence="cc-by-4.0")
    assert verify(target).ok  # the card lies beside the files and is none of them
    assert 'license: "cc-by-4.0"' in (target / "README.md").read_text()
    assert open_store(target).fingerprint == open_store(store).fingerprint
    (target / "README.md").write_text("my own words")
    push(store, str(target))
    assert (target / "README.md").read_text() == "my own words"


def test_what_can_not_be_pushed(toy: Toy, tmp_path: Path) -> None:
    begin(tmp_path / "begun", toy)
    with pytest.raises(StoreMissing, match="No finished store") as caught:
        push(tmp_path / "begun", URL)
    assert "still being written" in caught.value.why
    with pytest.raises(UsageError, match="names no bucket"):
        push(tmp_path / "begun", "s3://")


@pytest.mark.skipif(
    shutil.which("moto_server") is None, reason="moto's server is not installed (pip install moto[server])"
)
def test_a_real_s3_server(store: Path, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'umecache[s3]')")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("lab")
        push(store, "s3://lab/vit/val")
        assert push(store, "s3://lab/vit/val")[0].files == 0
        pull("s3://lab/vit/val", tmp_path / "back")
        assert tree(tmp_path / "back") == tree(store)
        pull("s3://lab/vit/val", tmp_path / "few", ids=toy.ids[:3])
        assert verify(tmp_path / "few").ok
    finally:
        server.stop()
    assert os.environ["AWS_ENDPOINT_URL"]
