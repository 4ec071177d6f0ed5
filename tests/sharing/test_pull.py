"""Pulling whole stores: from folders and the web, resumed, checked, never half-visible, from nobody trusted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.site import Site
from tests.stores.toy import Toy, begin, tree, write
from umecache.errors import UmecacheError, UsageError
from umecache.home import stores_home
from umecache.sharing.pull import pull, staging_of
from umecache.sharing.remotes import RemoteFailed
from umecache.stores import StoreDamaged, StoreMismatch, StoreMissing, open_store
from umecache.stores.errors import StoreWriteFailed
from umecache.stores.verify import verify


def seal_again(store: Path) -> None:
    """Make CHECKSUMS fit whatever the store holds now: what an attacker would do."""
    names = [name for name in tree(store) if name != "CHECKSUMS"]
    lines = [f"{hashlib.sha256((store / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names)]
    (store / "CHECKSUMS").write_text("".join(lines))


def edit_manifest(store: Path, **changes: Any) -> None:
    facts = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(facts | changes))
    seal_again(store)


def nothing_visible(target: Path) -> bool:
    return not target.exists()


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder(store: Path, tmp_path: Path, scheme: str) -> None:
    os.utime(store / "manifest.json", (1e9, 1e9))
    target = tmp_path / "mine/val"
    (moved,) = pull(f"{scheme}{store}", target)
    assert tree(target) == tree(store)
    assert (target / "manifest.json").stat().st_mtime == 1e9  # a store was created when it was sealed, not when copied
    assert moved.bytes == sum(len(data) for data in tree(store).values())
    assert verify(target).ok
    assert [path.name for path in target.parent.iterdir()] == ["val"]
    (again,) = pull(str(store), target)
    assert (again.files, again.bytes) == (0, 0)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("heads", [True, False])
def test_the_web(store: Path, site: Site, tmp_path: Path, ranges: bool, heads: bool) -> None:
    site.ranges, site.heads = ranges, heads
    (moved,) = pull(f"{site.url}/val", tmp_path / "t")
    assert tree(tmp_path / "t") == tree(store)
    assert moved.fingerprint == open_store(store).fingerprint


def test_where_fuse_looks(store: Path, site: Site) -> None:
    (moved,) = pull(f"{site.url}/val")
    recipe = open_store(store).manifest["recipe_hash"][:8]
    assert Path(moved.target) == stores_home() / f"toy/toy-{recipe}/train"  # as its manifest says
    assert open_store(moved.target).fingerprint == moved.fingerprint


def test_a_manifest_does_not_choose_a_place_outside(store: Path, site: Site) -> None:
    edit_manifest(store, model="../../../x", dataset={"name": "..", "split": "/etc"})
    (moved,) = pull(f"{site.url}/val")
    assert Path(moved.target).resolve().is_relative_to(stores_home().resolve())


def test_several_stores(store: Path, site: Site, toy: Toy, tmp_path: Path) -> None:
    write(store.parent / "train", toy)
    moved = pull(site.url, tmp_path / "all")  # nothing lists them: the usual names are tried
    assert sorted(Path(each.target).name for each in moved) == ["train", "val"]
    assert [Path(each.target).name for each in pull(site.url, tmp_path / "one", splits=["val"])] == ["val"]
    with pytest.raises(StoreMissing, match="'test'"):
        pull(site.url, tmp_path / "none", splits=["test"])
    with pytest.raises(UsageError, match="'train'"):
        pull(f"{site.url}/val", tmp_path / "none", splits=["test"])  # its manifest says train


def test_dry_run(store: Path, site: Site, tmp_path: Path) -> None:
    (moved,) = pull(f"{site.url}/val", tmp_path / "deep/t", dry_run=True)
    assert not (tmp_path / "deep").exists()
    assert moved.bytes == sum(len(data) for data in tree(store).values())
    assert not any("tokens/c" in name for name in site.fetched())


def test_a_broken_line_goes_on_where_it_stopped(store: Path, site: Site, tmp_path: Path) -> None:
    site.cut = {"val/tokens/c/2/0": 1000, "val/ids/c/0": 8}
    pull(f"{site.url}/val", tmp_path / "t")
    assert tree(tmp_path / "t") == tree(store)
    assert ("GET", "/val/tokens/c/2/0", f"bytes=1000-{(store / 'tokens/c/2/0').stat().st_size - 1}") in site.requests


def test_only_what_is_missing_comes_after_a_failure(store: Path, site: Site, tmp_path: Path) -> None:
    site.broken = {"val/tokens/c/6/0": 503}
    target = tmp_path / "t"
    with pytest.raises(RemoteFailed, match="503"):
        pull(f"{site.url}/val", target)
    assert nothing_visible(target)
    there = {name for name in tree(staging_of(target)) if not name.startswith(".writing")}
    site.broken, site.requests = {}, []
    pull(f"{site.url}/val", target)
    assert tree(target) == tree(store)
    repeated = {name.removeprefix("val/") for name in site.fetched()} & there
    assert repeated <= {"CHECKSUMS", "manifest.json"}


def test_killed_midway(store: Path, site: Site, tmp_path: Path) -> None:
    """Kill -9 between two blocks of a file; the next run asks for the rest of it only."""
    target = tmp_path / "t"
    script = (
        "import os, sys\n"
        "from umecache.sharing import fetch, pull\n"
        "seen = []\n"
        "def add(self, n):\n"
        "    seen.append(n)\n"
        "    if len(seen) > 12: os.kill(os.getpid(), 9)\n"
        "fetch.Progress.add = add\n"
        f"pull.pull({site.url + '/val'!r}, {str(target)!r}, jobs=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert nothing_visible(target)
    site.requests = []
    pull(f"{site.url}/val", target)
    assert tree(target) == tree(store)
    fetched = [name for name in site.fetched() if name not in ("val/CHECKSUMS", "val/manifest.json")]
    assert len(fetched) <= len(tree(store)) - 12


def test_the_remote_changed_meanwhile(store: Path, site: Site, toy: Toy, tmp_path: Path) -> None:
    site.broken = {"val/tokens/c/6/0": 503}
    target = tmp_path / "t"
    with pytest.raises(RemoteFailed):
        pull(f"{site.url}/val", target)
    edit_manifest(store, origin={"note": "another version"})
    site.broken = {}
    pull(f"{site.url}/val", target)
    assert tree(target) == tree(store)


def test_damage_at_the_remote_is_named(store: Path, site: Site, tmp_path: Path) -> None:
    file = store / "tokens/c/3/0"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreDamaged, match=r"tokens/c/3/0 arrived, but is not what CHECKSUMS lists"):
        pull(f"{site.url}/val", tmp_path / "t")
    assert nothing_visible(tmp_path / "t")
    file.write_bytes(data[:-1])
    with pytest.raises(RemoteFailed, match="cut short"):
        pull(f"{site.url}/val", tmp_path / "t")
    file.unlink()
    with pytest.raises(UmecacheError, match=r"There is no .*tokens/c/3/0"):
        pull(f"{site.url}/val", tmp_path / "t")


def test_sizes_that_lie(store: Path, site: Site, tmp_path: Path) -> None:
    site.more = {"val/tokens/c/1/0": 50_000_000}  # what is behind the declared size is not read
    pull(f"{site.url}/val", tmp_path / "t")
    assert tree(tmp_path / "t") == tree(store)
    site.more = {"val/start/c/0": 1 << 20}
    with pytest.raises(StoreDamaged, match="start/c/0"):
        pull(f"{site.url}/val", tmp_path / "t1")
    site.more = {"val/CHECKSUMS": 1 << 20}
    with pytest.raises(StoreDamaged, match="CHECKSUMS"):
        pull(f"{site.url}/val", tmp_path / "t2")


def test_more_than_the_disk_holds_is_refused_at_once(store: Path, site: Site, tmp_path: Path) -> None:
    facts = json.loads((store / "manifest.json").read_text())
    facts["layout"]["shards"][0]["files"][0]["bytes"] = 1 << 60
    edit_manifest(store, layout=facts["layout"])
    with pytest.raises(StoreWriteFailed, match="are free there"):
        pull(f"{site.url}/val", tmp_path / "t")
    assert not any("tokens/c" in name for name in site.fetched())


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "tokens/./x", ".writing/claims/x", "a\\b"])
def test_a_path_that_leads_out(store: Path, site: Site, tmp_path: Path, name: str) -> None:
    with (store / "CHECKSUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    before = tree(tmp_path)
    with pytest.raises(StoreDamaged, match=r"outside itself|no file of a store"):
        pull(f"{site.url}/val", tmp_path / "t")
    assert {n for n in tree(tmp_path) if not n.startswith(".t.pulling")} == set(before)


def test_a_manifest_that_names_another_file(store: Path, site: Site, tmp_path: Path) -> None:
    facts = json.loads((store / "manifest.json").read_text())
    facts["layout"]["shards"][0]["files"][0]["path"] = "../../evil"
    edit_manifest(store, layout=facts["layout"])
    with pytest.raises(StoreDamaged, match="shard 0 is not what CHECKSUMS lists"):
        pull(f"{site.url}/val", tmp_path / "t")


def test_a_link_in_the_way_is_not_followed(store: Path, site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    staging = staging_of(tmp_path / "t")
    staging.mkdir()
    (staging / "tokens").symlink_to(outside)
    with pytest.raises(StoreDamaged, match="outside itself"):
        pull(f"{site.url}/val", tmp_path / "t")
    assert not list(outside.iterdir())


@pytest.mark.parametrize("text", ["", "garbage\n", "0" * 64 + "  a\n" + "0" * 64 + "  a\n", "x" * 70 + "\n", "\xff"])
def test_a_list_that_is_none(store: Path, site: Site, tmp_path: Path, text: str) -> None:
    (store / "CHECKSUMS").write_text(text, encoding="latin-1")
    with pytest.raises(StoreDamaged):
        pull(f"{site.url}/val", tmp_path / "t")
    assert nothing_visible(tmp_path / "t")


def test_a_target_that_is_taken(store: Path, toy: Toy, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, Toy.make(seed=5))
    with pytest.raises(StoreMismatch, match="other features"):
        pull(str(store), other)
    write(tmp_path / "hdf5", toy, format="hdf5")
    with pytest.raises(StoreMismatch, match="same features in other bytes"):
        pull(str(store), tmp_path / "hdf5")
    begin(tmp_path / "begun", toy)
    with pytest.raises(StoreMismatch, match="being written"):
        pull(str(store), tmp_path / "begun")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/thesis.tex").write_text("")
    with pytest.raises(StoreMismatch, match="no store"):
        pull(str(store), tmp_path / "papers")
    with pytest.raises(UsageError, match="the source itself"):
        pull(str(store), store)
    (tmp_path / "empty").mkdir()
    pull(str(store), tmp_path / "empty")
    assert tree(tmp_path / "empty") == tree(store)


def test_two_at_once(store: Path, tmp_path: Path) -> None:
    from umecache.sharing.pull import staged

    with (
        staged(tmp_path / "t", dry_run=False),
        pytest.raises(StoreMismatch, match="Another process is pulling"),
    ):
        pull(str(store), tmp_path / "t")
    pull(str(store), tmp_path / "t")


def test_nothing_there(site: Site, tmp_path: Path, toy: Toy) -> None:
    with pytest.raises(StoreMissing, match="No finished store"):
        pull(f"{site.url}/nowhere", tmp_path / "t")
    begin(tmp_path / "served/begun", toy)
    with pytest.raises(StoreMissing):
        pull(f"{site.url}/begun", tmp_path / "t")
    started = time.monotonic()
    with pytest.raises(RemoteFailed, match="can't be reached"):
        pull("http://127.0.0.1:9/x", tmp_path / "t")
    assert time.monotonic() - started < 30
