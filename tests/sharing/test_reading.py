"""Reading from afar: the values of the disk, only the shards that are needed, within bounds, from nobody trusted."""

from __future__ import annotations

import copy
import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sharing.services import Bucket, Folder
from tests.sharing.site import Site
from tests.sharing.test_pull import edit_manifest, seal_again
from tests.stores.toy import Toy, tree, write
from umecache.errors import UmecacheError, UsageError
from umecache.sharing import reading
from umecache.sharing.cache import Cache, CacheFull
from umecache.sharing.push import push
from umecache.sharing.reading import RemoteStore, is_remote, open_splits, open_store
from umecache.sharing.remotes import RemoteFailed
from umecache.stores import Store, StoreDamaged, StoreMismatch, StoreMissing, UnknownId

LAYOUTS = [{}, {"format": "hdf5"}, {"dtype": "int8"}, {"dtype": "int8", "format": "hdf5"}, {"compression": "zstd"}]


def same(store: Store, path: Path) -> None:
    """Every record, alone and in batches, bit for bit."""
    whole = open_store(path)
    assert store.fingerprint == whole.fingerprint
    assert store.failures == whole.failures
    assert list(store.ids) == list(whole.ids)
    for name in whole.ids:
        assert np.array_equal(store[name], whole[name])
    for part in np.array_split(np.random.default_rng(0).permutation(len(whole)), 5):
        names = whole.ids_at(part.tolist())
        for ours, theirs in zip(store.batch(names), whole.batch(names), strict=True):
            assert np.array_equal(ours, theirs)


def shards(site: Site) -> list[str]:
    """Shards that were asked for, in order."""
    return [name.split("/")[-2] for name in site.fetched() if "/tokens/c/" in name]


def held(cache: Path) -> int:
    return sum(len(data) for data in tree(cache).values())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("ranges", [True, False])
def test_the_same_as_from_disk(site: Site, toy: Toy, tmp_path: Path, layout: dict[str, str], ranges: bool) -> None:
    write(tmp_path / "served/s", toy, **layout)
    site.ranges = ranges
    store = open_store(f"{site.url}/s", cache=tmp_path / "cache")
    same(store, tmp_path / "served/s")
    assert store.place == f"{site.url}/s"
    assert store.path.is_relative_to(tmp_path / "cache")


def test_a_path_opens_as_ever(store: Path) -> None:
    for place in (store, str(store), f"file://{store}"):
        assert not is_remote(place)
        assert type(open_store(place)) is Store


def test_only_what_is_needed_comes_and_it_comes_once(store: Path, site: Site, tmp_path: Path) -> None:
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache")
    assert shards(site) == []
    far.batch(far.ids_at([0, 1]))
    assert shards(site) == ["0"]
    far[far.ids_at([6])[0]]
    assert shards(site) == ["0", "1"]
    site.requests.clear()
    again = open_store(f"{site.url}/val", cache=tmp_path / "cache")
    again.batch(again.ids_at([0, 1, 6]))
    assert site.fetched() == ["val/CHECKSUMS"]  # which says that it is still the same store


def test_another_url_of_the_same_store_shares_what_came(store: Path, site: Site, tmp_path: Path) -> None:
    same(open_store(f"{site.url}/val", cache=tmp_path / "cache"), store)
    store.rename(store.with_name("moved"))
    site.requests.clear()
    same(open_store(f"{site.url}/moved", cache=tmp_path / "cache"), store.with_name("moved"))
    assert site.fetched() == ["moved/CHECKSUMS"]


def test_the_cache_is_bounded(store: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TOUCH", 0.0)
    files = tree(store)
    lists = sum(len(data) for name, data in files.items() if not name.startswith(("tokens/c/", "receipts/")))
    shard = max(len(data) for name, data in files.items() if name.startswith("tokens/c/"))
    limit = lists + 3 * shard
    most: list[int] = []
    real = Cache.make_room

    def make_room(self: Cache, n: int, spare: Any = ()) -> None:
        real(self, n, spare)
        most.append(held(tmp_path / "cache") + n)

    monkeypatch.setattr(Cache, "make_room", make_room)
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache", cache_bytes=limit)
    same(far, store)
    assert len(shards(site)) > 7  # some came again
    assert max(most) <= limit
    site.requests.clear()
    for row in (0, 6, 11, 0, 16, 0):  # shard 0 is read again and again, so it stays
        far.batch(far.ids_at([row]))
    assert shards(site).count("0") <= 1


def test_a_shard_larger_than_the_cache_is_refused_before_it_comes(store: Path, site: Site, tmp_path: Path) -> None:
    lists = sum(len(data) for name, data in tree(store).items() if not name.startswith(("tokens/c/", "receipts/")))
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache", cache_bytes=lists + 100)
    with pytest.raises(CacheFull, match="needed at once"):
        far[far.ids[0]]
    assert shards(site) == []


def test_bring(store: Path, site: Site, tmp_path: Path) -> None:
    class Listening:
        said: list[str]

        def __init__(self) -> None:
            self.said = []

        def say(self, line: str) -> None:
            self.said.append(line)

        def task(self, label: str, total: float | None, unit: str = "items") -> Any:
            self.said.append(f"{label} {unit}")
            return reading.Silent().task(label, total)

    heard = Listening()
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache", reporter=heard)
    assert isinstance(far, RemoteStore)
    far.bring(np.arange(len(far)))
    assert sorted(shards(site)) == ["0", "1", "2", "3", "4", "5", "6"]
    far.bring(np.arange(len(far)))
    assert heard.said == ["fetch val MB"]
    small = open_store(f"{site.url}/val", cache=tmp_path / "cache", cache_bytes=held(tmp_path / "cache") // 2)
    heard.said.clear()
    assert isinstance(small, RemoteStore)
    small._reporter = heard
    site.requests.clear()
    small.bring(np.arange(len(far)))
    assert "come again whenever they are read" in heard.said[0]
    assert shards(site) == []


READS = (
    "import sys\n"
    "from umecache.sharing.reading import open_store\n"
    "far = open_store(sys.argv[1], cache=sys.argv[2], cache_bytes=int(sys.argv[3]))\n"
    "ids = far.ids_at(range(len(far)))\n"
    "print(sum(float(abs(far.batch(ids[i:i+3])[0]).sum()) for i in range(0, len(ids), 3)))\n"
)


@pytest.mark.parametrize("roomy", [True, False])
def test_two_processes_at_once(store: Path, site: Site, tmp_path: Path, roomy: bool) -> None:
    whole = open_store(store)
    ids = whole.ids_at(range(len(whole)))
    right = str(sum(float(abs(whole.batch(ids[i : i + 3])[0]).sum()) for i in range(0, len(ids), 3)))
    size = held(store) if roomy else held(store) // 2
    command = [sys.executable, "-c", READS, f"{site.url}/val", str(tmp_path / "cache"), str(size)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for each in both:
        out, err = each.communicate(timeout=300)
        assert out.strip() == right, err
    if roomy:
        assert len(shards(site)) == len(set(shards(site))) == 7  # what one brings, the other reads


def test_threads_at_once(store: Path, site: Site, tmp_path: Path) -> None:
    far, whole = open_store(f"{site.url}/val", cache=tmp_path / "cache"), open_store(store)
    with ThreadPoolExecutor(6) as pool:
        for name, found in zip(whole.ids, pool.map(lambda name: far[name], whole.ids), strict=True):
            assert np.array_equal(found, whole[name])
    assert len(shards(site)) == len(set(shards(site)))


def test_in_workers(store: Path, site: Site, tmp_path: Path) -> None:
    far, whole = open_store(f"{site.url}/val", cache=tmp_path / "cache"), open_store(store)
    sent = copy.copy(far)
    same(sent, store)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.map(far.__getitem__, [int(whole.ids[-1 - i]) for i in range(5)])
    for i in range(5):
        assert np.array_equal(found[i], whole[int(whole.ids[-1 - i])])
    edit_manifest(store, fingerprint="0" * 64)
    with pytest.raises(StoreMismatch, match="not the store it was"):
        copy.copy(far)


def test_killed_midway(store: Path, site: Site, tmp_path: Path) -> None:
    """Kill -9 in the middle of a shard; the next run asks for the rest of it only."""
    size = (store / "tokens/c/0/0").stat().st_size
    script = (
        "import os\n"
        "from umecache.sharing import fetch, reading\n"
        f"far = reading.open_store({site.url + '/val'!r}, cache={str(tmp_path / 'cache')!r})\n"
        "fetch.Progress.add = lambda self, n: os.kill(os.getpid(), 9)\n"
        "far[far.ids[0]]\n"
    )
    site.cut["val/tokens/c/0/0"] = 1000  # so that a part of it is all that comes
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    site.requests.clear()
    same(open_store(f"{site.url}/val", cache=tmp_path / "cache"), store)
    asked = [asked for _, path, asked in site.requests if path == "/val/tokens/c/0/0"]
    assert len(asked) == 1
    assert asked[0] in (f"bytes=0-{size - 1}", f"bytes=1000-{size - 1}")


def test_a_line_that_breaks(store: Path, site: Site, tmp_path: Path) -> None:
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache")
    site.cut["val/tokens/c/0/0"] = 1000
    assert np.array_equal(far[far.ids[0]], open_store(store)[int(far.ids[0])])  # it goes on by itself
    site.broken = {f"val/tokens/c/{k}/0": 503 for k in range(7)}
    site.requests.clear()
    with pytest.raises(RemoteFailed, match=r"tokens/c/1/0: 503") as caught:
        far[far.ids_at([6])[0]]
    assert "what has arrived is kept" in caught.value.next
    assert shards(site) == ["1"] * 6
    far[far.ids[0]]  # what is here can be read
    site.broken = {}
    same(far, store)


def test_a_server_that_stumbles_at_the_start(store: Path, site: Site, tmp_path: Path) -> None:
    site.cut = {"val/CHECKSUMS": 10}
    same(open_store(f"{site.url}/val", cache=tmp_path / "cache"), store)


def test_damage_is_named_and_nothing_of_it_kept(store: Path, site: Site, tmp_path: Path) -> None:
    file = store / "tokens/c/1/0"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache")
    far[far.ids[0]]
    with pytest.raises(StoreDamaged, match=r"tokens/c/1/0 arrived, but is not what CHECKSUMS lists"):
        far[far.ids_at([6])[0]]
    assert not any("tokens/c/1" in name for name in tree(tmp_path / "cache"))


def test_another_version_meanwhile(store: Path, site: Site, toy: Toy, tmp_path: Path) -> None:
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache")
    far[far.ids[0]]
    file = store / "tokens/c/1/0"
    file.write_bytes(bytes(len(file.read_bytes())))
    seal_again(store)
    with pytest.raises(StoreMismatch, match="was changed while it was read"):
        far[far.ids_at([6])[0]]


def test_nothing_there(site: Site, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="No finished store"):
        open_store(f"{site.url}/nowhere", cache=tmp_path / "cache")
    with pytest.raises(UsageError):
        open_store("gopher://example.org/x")
    with pytest.raises(RemoteFailed, match="can't be reached"):
        open_store("http://127.0.0.1:9/x")


def test_an_unknown_id_names_the_url(store: Path, site: Site, tmp_path: Path) -> None:
    far = open_store(f"{site.url}/val?token=secret", cache=tmp_path / "cache")
    with pytest.raises(UnknownId, match=f"{site.url}/val has no id -5"):
        far[-5]
    assert "secret" not in repr(far)


# A hostile remote.


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "tokens/./x", ".writing/claims/x", "a\\b"])
def test_a_path_that_leads_out(store: Path, site: Site, tmp_path: Path, name: str) -> None:
    with (store / "CHECKSUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    before = set(tree(tmp_path))
    with pytest.raises(StoreDamaged, match=r"outside itself|no file of a store"):
        open_store(f"{site.url}/val", cache=tmp_path / "cache")
    assert {each for each in tree(tmp_path) if not each.startswith("cache/")} == before


def test_a_manifest_that_names_another_file(store: Path, site: Site, tmp_path: Path) -> None:
    layout = json.loads((store / "manifest.json").read_text())["layout"]
    layout["shards"][0]["files"][0]["path"] = "../../evil"
    edit_manifest(store, layout=layout)
    with pytest.raises(StoreDamaged, match="shard 0 is not what CHECKSUMS lists"):
        open_store(f"{site.url}/val", cache=tmp_path / "cache")


def test_sizes_that_lie(store: Path, site: Site, tmp_path: Path) -> None:
    layout = json.loads((store / "manifest.json").read_text())["layout"]
    small = json.loads(json.dumps(layout))
    layout["shards"][0]["files"][0]["bytes"] = 1 << 60
    edit_manifest(store, layout=layout)
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache")
    with pytest.raises(CacheFull):
        far[far.ids[0]]
    small["shards"][0]["files"][0]["bytes"] = 100
    edit_manifest(store, layout=small)
    far = open_store(f"{site.url}/val", cache=tmp_path / "cache2")
    with pytest.raises(StoreDamaged, match="arrived, but is not what CHECKSUMS lists"):
        far[far.ids[0]]
    site.more = {"val/ids/c/0": 50_000_000}
    with pytest.raises(StoreDamaged, match="ids/c/0"):
        open_store(f"{site.url}/val", cache=tmp_path / "cache3")
    assert held(tmp_path / "cache3") < 1_000_000


def test_a_list_that_never_ends(store: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("umecache.sharing.listing.MAX_JSON", 100_000)
    site.more = {"val/CHECKSUMS": 1 << 24}
    with pytest.raises(RemoteFailed, match="far more than such a file needs"):
        open_store(f"{site.url}/val", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_link_in_the_cache_is_not_followed(store: Path, site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    entry = Cache(tmp_path / "cache", 1).entry((store / "CHECKSUMS").read_bytes())
    (entry / "tokens").symlink_to(outside)
    with pytest.raises(StoreDamaged, match="outside itself"):
        open_store(f"{site.url}/val", cache=tmp_path / "cache")
    assert not list(outside.iterdir())


# Folders of stores, and real servers.


def test_splits(store: Path, site: Site, toy: Toy) -> None:
    found = open_splits(f"{site.url}/val", ("train", "val"))  # one store for all
    assert found["train"] is found["val"]
    write(store.parent / "train", toy)
    found = open_splits(site.url, ("train", "val"))
    assert {split: each.place for split, each in found.items()} == {
        "train": f"{site.url}/train",
        "val": f"{site.url}/val",
    }
    with pytest.raises(StoreMissing, match="'test'"):
        open_splits(site.url, ("val", "test"))


def test_splits_of_several_models(store: Path, toy: Toy, site: Site) -> None:
    write(store.parent / "vit/val", toy)
    index = [{"path": "val", "split": "val"}, {"path": "vit/val", "split": "val"}]
    (store.parent / "stores.json").write_text(json.dumps({"format_version": 1, "stores": index}))
    with pytest.raises(UsageError, match="several stores of a split: val, vit/val"):
        open_splits(site.url, ("val",))
    (store.parent / "stores.json").write_text(json.dumps({"stores": [{"path": "val", "split": "other"}]}))
    with pytest.raises(UmecacheError, match=r"'other'|'val'"):
        open_splits(site.url, ("other",))


def test_from_s3(store: Path, bucket: Bucket, tmp_path: Path) -> None:
    push(store, f"{bucket.url}/vit")
    far = open_store(f"{bucket.url}/vit", cache=tmp_path / "cache")
    with multiprocessing.get_context("fork").Pool(1) as pool:  # before this process has asked for a shard
        assert np.array_equal(pool.apply(far.__getitem__, (int(far.ids[0]),)), open_store(store)[int(far.ids[0])])
    same(far, store)
    data = bytearray(bucket.objects()["vit/tokens/c/1/0"])
    data[7] ^= 4
    bucket.put("vit/tokens/c/1/0", bytes(data))
    fresh = open_store(f"{bucket.url}/vit", cache=tmp_path / "other")
    with pytest.raises(StoreDamaged, match="tokens/c/1/0"):
        fresh.batch(fresh.ids)


def test_from_a_plain_web_server(store: Path, web: Folder, tmp_path: Path) -> None:
    push(store, str(web.folder / "vit"))
    same(open_store(f"{web.url}/vit", cache=tmp_path / "cache"), store)


def test_what_was_written_down_is_a_path_or_stays_a_url(store: Path, site: Site) -> None:
    assert reading.located(str(store)) == store
    assert reading.located(str(store.parent), "val") == store
    assert reading.located(str(store), "val") == store  # one store for all
    assert reading.located(f"{site.url}/val") == f"{site.url}/val"
    assert reading.located(site.url, "val") == f"{site.url}/val"
