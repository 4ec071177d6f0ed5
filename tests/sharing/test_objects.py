"""Object stores over real clients: one listing in the place of a question for each file, and none that never ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sharing.gs_server import Storage
from tests.sharing.services import Bucket
from tests.stores.toy import Toy, tree, write
from umecache.sharing import pull as pulling
from umecache.sharing.objects import GsRemote, S3Remote
from umecache.sharing.pull import pull
from umecache.sharing.push import push
from umecache.sharing.reading import open_store
from umecache.sharing.remotes import RemoteMissing, open_remote, read_small
from umecache.stores import StoreDamaged

MANY = Toy.make(ids=160, distinct=160, dim=8, broken=0, missing=0)
BESIDE = 14  # requests that do not grow with the store: CHECKSUMS, the card, listings, the bucket itself


def test_requests_grow_with_the_files_and_no_faster(bucket: Bucket, tmp_path: Path) -> None:
    write(tmp_path / "store", MANY, shard_records=4)
    files = len(tree(tmp_path / "store"))
    assert files > 80
    counted = {}

    def count(name: str) -> Counter[str]:
        before = len(bucket.requests())
        WAYS[name]()
        counted[name] = Counter(each.split()[0] for each in bucket.requests()[before:])
        return counted[name]

    url = f"{bucket.url}/vit"
    WAYS = {
        "push": lambda: push(tmp_path / "store", url),
        "push again": lambda: push(tmp_path / "store", url),
        "dry run": lambda: pull(url, tmp_path / "back", dry_run=True),
        "pull": lambda: pull(url, tmp_path / "back"),
    }
    sent = count("push")
    assert sent["PUT"] == files + 1  # and the card
    assert sent.total() - sent["PUT"] <= BESIDE
    assert count("push again").total() <= BESIDE
    assert count("dry run").total() <= BESIDE
    assert count("pull").total() <= files + BESIDE
    print({name: dict(each) for name, each in counted.items()}, f"{files} files")
    assert tree(tmp_path / "back") == tree(tmp_path / "store")


def test_a_listing_of_several_pages(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umecache.sharing.objects.PAGE", 3)
    for k in range(10):
        bucket.put(f"vit/a/{k} é", b"x" * k)
    bucket.put("vitamin", b"another")
    remote = open_remote(f"{bucket.url}/vit")
    assert remote.sizes(10) == {f"a/{k} é": k for k in range(10)}
    assert remote.below("a").sizes(10) == {f"{k} é": k for k in range(10)}
    assert remote.sizes(9) is None
    assert remote.below("b").sizes(9) == {}
    with pytest.raises(RemoteMissing, match="no bucket 'no-such-bucket-at-all'"):
        open_remote("s3://no-such-bucket-at-all/x").sizes(9)
    assert b"".join(remote.stream("a/0 é")) == b""
    assert b"".join(remote.stream("a/9 é", 9)) == b""
    assert b"".join(remote.stream("a/9 é", 3, 3)) == b""
    assert read_small(remote, "a/9 é", 10) == b"x" * 9


def test_one_request_brings_a_large_object_and_may_be_left(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umecache.sharing.objects.BLOCK", 1000)
    data = bytes(range(256)) * 40
    bucket.put("vit/large", data)
    remote = open_remote(f"{bucket.url}/vit")
    before = len(bucket.requests())
    assert b"".join(remote.stream("large", 7, 9000)) == data[7:9000]
    assert len(bucket.requests()) == before + 1
    for first in range(20):  # a reader that stops early leaves nothing open
        assert next(iter(remote.stream("large", first))) == data[first : first + 1000]
    assert b"".join(remote.stream("large")) == data
    with pytest.raises(RemoteMissing, match="vit/none"):
        list(remote.stream("none", 5))


class Endless:
    """Lists objects for ever."""

    def __init__(self) -> None:
        self.pages = 0

    def call_s3(self, method: str, **said: Any) -> dict[str, Any]:
        self.pages += 1
        names = [f"vit/{self.pages}-{k}" for k in range(said["MaxKeys"])]
        return {"Contents": [{"Key": name, "Size": 1 << 60} for name in names], "NextContinuationToken": "more"}

    def call(self, method: str, path: str, bucket: str, **said: Any) -> dict[str, Any]:
        self.pages += 1
        names = [f"vit/{self.pages}-{k}" for k in range(said["maxResults"])]
        return {"items": [{"name": name, "size": str(1 << 60)} for name in names], "nextPageToken": "more"}


@pytest.mark.parametrize("kind", [S3Remote, GsRemote])
def test_a_listing_that_never_ends(kind: type[S3Remote]) -> None:
    system = Endless()
    assert kind("s3://b/vit", system, "b/vit").sizes(pulling.MANY) is None
    assert system.pages <= 11


def test_a_listing_that_lies_changes_nothing(
    bucket: Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever sizes it tells: what is sent is asked for, and what comes is compared."""
    monkeypatch.setattr(S3Remote, "sizes", lambda self, most: {"tokens/c/0/0": 1, "../../evil": 5})
    (moved,) = push(store, f"{bucket.url}/vit")
    assert moved.bytes == sum(len(data) for data in tree(store).values())
    pull(f"{bucket.url}/vit", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "served"]


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """Google's storage on loopback, which `gs://` finds through gcsfs itself."""
    pytest.importorskip("gcsfs", reason="gcsfs is not installed (pip install 'umecache[gs]')")
    import gcsfs

    with Storage("lab") as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield running
        gcsfs.GCSFileSystem.clear_instance_cache()


def test_gs_there_and_back(storage: Storage, store: Path, toy: Toy, tmp_path: Path) -> None:
    (sent,) = push(store, "gs://lab/vit")
    objects = storage.buckets["lab"]
    assert {name: data for name, data in objects.items() if name != "vit/README.md"} == {
        f"vit/{name}": data for name, data in tree(store).items()
    }
    assert sent.bytes == sum(len(data) for data in tree(store).values())
    posted = len([each for each in storage.requests if each.startswith("POST")])
    assert posted == len(tree(store)) + 1
    before = len(storage.requests)
    assert push(store, "gs://lab/vit")[0].files == 0
    assert len(storage.requests) - before <= BESIDE
    pull("gs://lab/vit", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store)
    pull("gs://lab/vit", tmp_path / "few", ids=toy.ids[:3])
    whole, far = open_store(store), open_store("gs://lab/vit", cache=tmp_path / "cache")
    assert all(np.array_equal(far[name], whole[name]) for name in whole.ids)
    assert open_remote("gs://lab/vit").sizes(1000) == {name: len(data) for name, data in _below(objects).items()}
    with pytest.raises(RemoteMissing, match="no bucket 'other'"):
        push(store, "gs://other/vit")


def test_gs_stopped_and_damaged(storage: Storage, store: Path, tmp_path: Path) -> None:
    push(store, "gs://lab/vit")
    objects = storage.buckets["lab"]
    del objects["vit/CHECKSUMS"], objects["vit/tokens/c/2/0"]
    before = len([each for each in storage.requests if each.startswith("POST")])
    (again,) = push(store, "gs://lab/vit")
    shards = {name: data for name, data in tree(store).items() if name.startswith(("tokens/c/", "receipts/"))}
    rest = sum(len(data) for name, data in tree(store).items() if name not in shards)
    assert again.bytes == rest + len(shards["tokens/c/2/0"]) + len(shards["receipts/000002.json"])
    assert len([each for each in storage.requests if each.startswith("POST")]) - before == again.files
    objects["vit/tokens/c/2/0"] = bytes(len(objects["vit/tokens/c/2/0"]))
    with pytest.raises(StoreDamaged, match="tokens/c/2/0 arrived, but is not what CHECKSUMS lists"):
        pull("gs://lab/vit", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def _below(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix("vit/"): data for name, data in objects.items()}
