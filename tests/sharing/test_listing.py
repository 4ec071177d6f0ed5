"""What a remote store consists of; hostile lists are in test_pull.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.toy import tree
from umecache.sharing.listing import find_remote_stores, parse_checksums, read_listing
from umecache.sharing.remotes import FolderRemote
from umecache.stores import StoreDamaged, StoreMissing


def test_every_file_and_the_size_of_shards(store: Path, tmp_path: Path) -> None:
    listing = read_listing(FolderRemote(store), tmp_path / "staging")
    files = tree(store)
    assert set(listing.sums) == set(files) - {"CHECKSUMS"}
    assert listing.sizes == {name: len(data) for name, data in files.items() if name.startswith("tokens/c/")}
    assert [each.name for each in listing.wanted()][-1].startswith("tokens/c/")  # small files first
    assert listing.shard(2) == ["tokens/c/2/0"]
    assert not any(name.startswith(("receipts/", "tokens/c")) for name in listing.small())
    assert listing.split == "train"


def test_another_manifest(store: Path, tmp_path: Path) -> None:
    (store / "manifest.json").write_text((store / "manifest.json").read_text() + "\n")
    with pytest.raises(StoreDamaged, match=r"manifest.json is not what CHECKSUMS lists"):
        read_listing(FolderRemote(store), tmp_path / "staging")


def test_lines(tmp_path: Path) -> None:
    good = f"{'a' * 64}  b/c d\n"
    assert parse_checksums(good.encode(), tmp_path, "x") == {"b/c d": "a" * 64}
    for bad in (good[:-1], good.upper(), good * 2, f"{'a' * 64} b\n", f"{'a' * 64}  CHECKSUMS\n"):
        with pytest.raises(StoreDamaged):
            parse_checksums(bad.encode(), tmp_path, "x")


def test_by_folder_and_by_split(store: Path) -> None:
    here = FolderRemote(store.parent)
    assert find_remote_stores(here, None) == ["val"]
    assert find_remote_stores(here, ["val"]) == ["val"]  # the folder's name
    assert find_remote_stores(here, ["train"]) == ["val"]  # the manifest's word
    assert find_remote_stores(FolderRemote(store), None) == [""]
    with pytest.raises(StoreMissing, match="It has: val"):
        find_remote_stores(here, ["test"])
