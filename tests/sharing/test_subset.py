"""Some ids of a remote store: a store of its own, and hardly more bytes than theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sharing.site import Site
from tests.stores.toy import Toy, begin, tree, write
from umecache.sharing.pull import pull, staging_of
from umecache.sharing.remotes import RemoteFailed
from umecache.stores import StoreDamaged, StoreMismatch, UnknownId, open_store
from umecache.stores.verify import verify

LAYOUTS = [
    {},
    {"format": "hdf5"},
    {"dtype": "bfloat16"},
    {"dtype": "int8"},
    {"dtype": "int8", "format": "hdf5"},
    {"compression": "zstd"},
    {"format": "hdf5", "compression": "gzip"},
]


def same(target: Path, source: Path, ids: list[Any]) -> None:
    part, whole = open_store(target), open_store(source)
    assert sorted(part.ids_at(range(len(part))), key=str) == sorted(ids, key=str)
    for name in ids:
        assert np.array_equal(part[name], whole[name])
    assert {name: part.failures[name] for name in part.failures} == {
        name: reason for name, reason in whole.failures.items() if name in ids
    }
    assert part.manifest["subset"] == {"of": whole.fingerprint, "records": len(whole)}
    assert verify(target).ok


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("ranges", [True, False])
def test_every_layout(site: Site, toy: Toy, tmp_path: Path, layout: dict[str, str], ranges: bool) -> None:
    write(tmp_path / "served/s", toy, **layout)
    site.ranges = ranges
    ids = [*toy.ids[::7], *toy.failed]
    (moved,) = pull(f"{site.url}/s", tmp_path / "few", ids=ids)
    same(tmp_path / "few", tmp_path / "served/s", list(dict.fromkeys(ids)))
    assert moved.subset
    assert not staging_of(tmp_path / "few").exists()
    (again,) = pull(f"{site.url}/s", tmp_path / "few", ids=ids)
    assert again.files == 0


def test_strings_from_a_folder(tmp_path: Path) -> None:
    toy = Toy.make(strings=True)
    write(tmp_path / "s", toy)
    pull(str(tmp_path / "s"), tmp_path / "few", ids=toy.ids[2:9])
    same(tmp_path / "few", tmp_path / "s", toy.ids[2:9])


def test_a_part_has_the_fingerprint_of_extracting_just_that(store: Path, toy: Toy, tmp_path: Path) -> None:
    (moved,) = pull(str(store), tmp_path / "few", ids=[toy.ids[9], toy.ids[4]])
    alone = Toy([toy.ids[4], toy.ids[9]], [toy.content[4], toy.content[9]], toy.length_of, toy.dim)
    assert write(tmp_path / "alone", alone)["fingerprint"] == moved.fingerprint


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_a_twentieth_of_the_ids_is_a_twentieth_of_the_bytes(site: Site, tmp_path: Path, format: str) -> None:
    toy = Toy.make(ids=400, distinct=400, dim=384, ragged=False, broken=0, missing=0)
    write(tmp_path / "served/s", toy, format=format, shard_records=100)
    whole = sum(len(data) for data in tree(tmp_path / "served/s").values())
    (moved,) = pull(f"{site.url}/s", tmp_path / "few", ids=toy.ids[10::20])
    same(tmp_path / "few", tmp_path / "served/s", toy.ids[10::20])
    lists = sum(
        len(data) for name, data in tree(tmp_path / "served/s").items() if not name.startswith(("tokens/c", "shards"))
    )
    assert site.sent - lists < 0.08 * whole
    assert moved.bytes < 0.08 * whole + lists


def test_only_needed_shards(site: Site, store: Path, toy: Toy, tmp_path: Path) -> None:
    pull(f"{site.url}/val", tmp_path / "few", ids=toy.ids[:2])
    assert {name for name in site.fetched() if "tokens/c" in name} == {"val/tokens/c/0/0"}


def test_stopped_and_run_again(site: Site, store: Path, toy: Toy, tmp_path: Path) -> None:
    site.broken = {"val/tokens/c/4/0": 503}
    with pytest.raises(RemoteFailed):
        pull(f"{site.url}/val", tmp_path / "few", ids=toy.ids)
    site.broken, site.requests = {}, []
    pull(f"{site.url}/val", tmp_path / "few", ids=toy.ids)
    assert not any("receipts" in name or "/ids/" in name for name in site.fetched())
    same(tmp_path / "few", store, toy.ids)


def test_damage_is_found_by_record_and_by_shard(site: Site, store: Path, toy: Toy, tmp_path: Path) -> None:
    file = store / "tokens/c/0/0"
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreDamaged, match="tokens/c/0/0 arrived, but is not what CHECKSUMS lists"):
        pull(f"{site.url}/val", tmp_path / "few", ids=toy.ids[:1])
    pull(f"{site.url}/val", tmp_path / "other", ids=toy.ids[1:2])  # the damage is not among its bytes


def test_what_can_not_be(store: Path, toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UnknownId, match="99999"):
        pull(str(store), tmp_path / "few", ids=[toy.ids[0], 99999])
    assert not (tmp_path / "few").exists()
    pull(str(store), tmp_path / "few", ids=toy.ids[:1])
    with pytest.raises(StoreMismatch, match="other ids"):
        pull(str(store), tmp_path / "few", ids=toy.ids[:2])
    begin(tmp_path / "begun", toy)
    with pytest.raises(StoreMismatch):
        pull(str(store), tmp_path / "begun", ids=toy.ids[:2])


def test_dry_run(store: Path, toy: Toy, tmp_path: Path) -> None:
    (moved,) = pull(str(store), tmp_path / "few", ids=toy.ids[:2], dry_run=True)
    assert moved.bytes == 2 * toy.dim * sum(toy.lengths[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
