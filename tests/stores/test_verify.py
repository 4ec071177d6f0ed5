"""Verifying: every fault is found, and named as closely as can be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.stores.toy import Toy, begin, copies, tree, write
from umecache.stores import StoreError, StoreIncomplete, StoreMissing
from umecache.stores.commit import checksums
from umecache.stores.verify import damaged_shards, verify


@pytest.fixture
def toy() -> Toy:
    return Toy.make()


@pytest.fixture(params=["zarr", "hdf5"])
def path(request: pytest.FixtureRequest, tmp_path: Path, toy: Toy) -> Path:
    write(tmp_path / "s", toy, format=request.param)
    return tmp_path / "s"


def seal_again(path: Path) -> None:
    """What a forger would do: make CHECKSUMS fit the changed files."""
    files = {name: hashlib.sha256(data).hexdigest() for name, data in tree(path).items() if name != "CHECKSUMS"}
    (path / "CHECKSUMS").write_bytes(checksums(files))


def test_a_sound_store(path: Path) -> None:
    ticks: list[int] = []
    found = verify(path, tick=ticks.append)
    assert found.ok
    assert (found.records, found.checked, found.shards) == (24, 16, [])
    assert sum(ticks) == sum(len(data) for name, data in tree(path).items() if name != "CHECKSUMS")


def test_files_added_removed_and_swapped(path: Path) -> None:
    good = tree(path)
    (path / "extra.txt").write_text("x")
    assert [d.reason for d in verify(path).damaged] == ["extra.txt is not listed in CHECKSUMS."]
    (path / "extra.txt").unlink()
    name = next(name for name in good if name.startswith(("start", "index")))
    (path / name).unlink()
    assert f"{name} is missing." in [d.reason for d in verify(path).damaged]
    (path / name).write_bytes(good[name])
    (path / "link").symlink_to("/etc/passwd")
    assert "link leads out of the store." in [d.reason for d in verify(path).damaged]
    (path / "link").unlink()
    (path / "receipts/000000.json").write_bytes(good["receipts/000001.json"])
    (path / "receipts/000001.json").write_bytes(good["receipts/000000.json"])
    assert verify(path).shards == [0, 1]


def test_the_list_itself(path: Path) -> None:
    data = (path / "CHECKSUMS").read_bytes()
    for changed in (b"", data[:-1], data + b"\n", b"\n".join(data.split(b"\n")[::-1]), data.replace(b"  ", b" *")):
        (path / "CHECKSUMS").write_bytes(changed)
        assert not verify(path).ok
    (path / "CHECKSUMS").unlink()
    assert "CHECKSUMS is missing." in verify(path).damaged[0].reason


def test_a_receipt_that_lies(path: Path) -> None:
    """Changed together with CHECKSUMS, so that only the records' own checksums can tell."""
    file = path / "receipts/000002.json"
    receipt = json.loads(file.read_text())
    receipt["crc32c"][1] = "00000000"
    file.write_text(json.dumps(receipt))
    seal_again(path)
    (damage,) = verify(path).damaged
    assert damage.shard == 2
    assert damage.ids[0] == receipt["ids"][1]
    assert verify(path, sample=1.0).shards == [2]


@pytest.mark.parametrize("field", ["rows", "shard", "ids", "tokens", "files"])
def test_receipts_that_disagree_with_the_manifest(path: Path, field: str) -> None:
    file = path / "receipts/000001.json"
    receipt = json.loads(file.read_text())
    other = json.loads((path / "receipts/000002.json").read_text())
    receipt[field] = other[field]
    file.write_text(json.dumps(receipt))
    seal_again(path)
    assert not verify(path).ok


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipe": {"layers": "-2", "dtype": "float16"}}, "recipe hash"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"failures": []}, "contradict each other"),
        ({"failures": "renamed"}, "failure list"),
    ],
)
def test_a_manifest_that_lies(path: Path, change: dict[str, object], reason: str) -> None:
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    if change == {"failures": "renamed"}:
        manifest["failures"][0]["reason"] = "the dog ate it"
        change = {}
    file.write_text(json.dumps(manifest | change))
    seal_again(path)
    assert any(reason in d.reason for d in verify(path).damaged)


def test_places_that_lie(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    file = tmp_path / "s/start/c/0"
    starts = np.frombuffer(file.read_bytes(), "<i8").copy()
    starts[[0, 1]] = starts[[1, 0]]
    file.write_bytes(starts.tobytes())
    seal_again(tmp_path / "s")
    assert "places" in verify(tmp_path / "s").damaged[0].reason


def test_damage_to_the_index_still_names_damaged_records(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    (tmp_path / "s/ids/c/0").write_bytes(b"\xff" * 24 * 8)
    shard = tmp_path / "s/tokens/c/1/0"
    data = bytearray(shard.read_bytes())
    data[0] ^= 1
    shard.write_bytes(data)
    found = verify(tmp_path / "s")
    assert found.shards == [1]
    assert any("ids/c/0 has changed" in d.reason for d in found.damaged)


def test_bytes_that_belong_to_no_record(tmp_path: Path) -> None:
    toy = Toy.make(ids=10, distinct=10, ragged=False, missing=0, broken=1)  # input 3 failed: a hole in shard 0
    write(tmp_path / "s", toy)
    file = tmp_path / "s/tokens/c/0/0"
    data = bytearray(file.read_bytes())
    assert not any(data[3 * 60 : 4 * 60])
    data[3 * 60 + 5] = 7
    file.write_bytes(data)
    (damage,) = verify(tmp_path / "s").damaged
    assert (damage.shard, damage.ids) == (0, ())
    assert "still sound" in damage.reason
    assert damaged_shards(tmp_path / "s") == [0]


def test_a_sample_reads_a_share(tmp_path: Path) -> None:
    toy = Toy.make(ids=100, distinct=100, missing=0, broken=0)
    write(tmp_path / "s", toy, shard_records=50)
    assert verify(tmp_path / "s", sample=0.1).checked == 10
    assert verify(tmp_path / "s", sample=0.001).checked == 2, "at least one of each shard"
    assert verify(tmp_path / "s", sample=1.0, seconds=0.0).checked == 1
    shard = tmp_path / "s/tokens/c/1/0"
    data = bytearray(shard.read_bytes())
    data[1] ^= 1
    shard.write_bytes(data)
    found = [verify(tmp_path / "s", sample=0.1, seed=seed) for seed in range(40)]
    assert 0 < sum(not f.ok for f in found) < 40
    assert {f.damaged[0].ids for f in found if not f.ok} == {(toy.ids[50],)}
    with pytest.raises(StoreError, match="share between 0 and 1"):
        verify(tmp_path / "s", sample=5.0)


def test_a_sample_still_checks_all_small_files(path: Path) -> None:
    for name, data in tree(path).items():
        if name.startswith(("tokens/c", "shards/")):
            continue
        for _ in copies(path / name, data):
            assert not verify(path, sample=0.01).ok, name


def test_what_can_t_be_verified(tmp_path: Path, toy: Toy) -> None:
    with pytest.raises(StoreMissing):
        verify(tmp_path / "none")
    begin(tmp_path / "s", toy)
    with pytest.raises(StoreIncomplete, match=r"0 of 4 shards.*sealed"):
        verify(tmp_path / "s")


def test_as_json(path: Path) -> None:
    (path / "receipts/000003.json").unlink()
    (damage,) = verify(path).damaged
    assert json.loads(json.dumps(damage.as_json())) == {
        "shard": 3,
        "ids": list(damage.ids),
        "reason": "receipts/000003.json is missing.",
    }
    assert damage.ids
