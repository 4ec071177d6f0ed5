"""Listing, telling and comparing stores."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.stores.toy import FACTS, Toy, begin, fill, tree, write
from umecache.stores import StoreError, StoreMissing, open_writer
from umecache.stores.catalog import diff, find_complete, find_stores, info, owner, workers


@pytest.fixture
def toy() -> Toy:
    return Toy.make()


def test_stores_are_found_wherever_they_lie(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "vqa/bert-12345678/val", toy)
    write(tmp_path / "vqa/bert-12345678/train", toy, format="hdf5")
    begin(tmp_path / "vqa/vit-12345678/val", toy)
    (tmp_path / "vqa/notes").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in find_stores(tmp_path)]
    assert found == ["vqa/bert-12345678/train", "vqa/bert-12345678/val", "vqa/vit-12345678/val"]
    assert list(find_stores(tmp_path / "vqa/bert-12345678/val")) == [tmp_path / "vqa/bert-12345678/val"]
    assert list(find_stores(tmp_path / "none")) == []


def test_info_of_finished_and_unfinished_stores(tmp_path: Path, toy: Toy) -> None:
    writer = begin(tmp_path / "s", toy)
    claimed = writer.claim()
    fill(next(claimed), toy)
    claimed.close()
    early = info(tmp_path / "s")
    assert (early["complete"], early["shards_done"], early["shards"]) == (False, 1, 4)
    late = write(tmp_path / "s", toy)
    told = info(tmp_path / "s")
    assert told["complete"]
    assert told["bytes"] == sum(len(data) for data in tree(tmp_path / "s").values())
    for key in ("records", "distinct", "tokens", "dim", "dtype", "format", "fingerprint", "recipe_hash", "model"):
        assert early[key] == late[key] == told[key], key
    (tmp_path / "t/.writing").mkdir(parents=True)
    assert info(tmp_path / "t")["records"] is None
    with pytest.raises(StoreMissing):
        info(tmp_path / "none")


def test_info_of_a_foreign_store(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("tokens", shape=(4, 3), dtype="float32")[:] = 1
    for name in ("ids", "start", "length"):
        group.create_array(name, shape=(2,), dtype="int64")[:] = np.array([0, 2])
    told = info(tmp_path / "g")
    assert (told["foreign"], told["records"], told["dim"], told["tokens"]) == (True, 2, 3, 2)
    with pytest.raises(StoreError, match="no manifest"):
        diff(tmp_path / "g", tmp_path / "g")


def test_equal_stores(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "a", toy)
    write(tmp_path / "b", toy)
    assert diff(tmp_path / "a", tmp_path / "b").as_json() == {"same": True, "differences": []}
    write(tmp_path / "c", toy, format="hdf5", shard_records=3)
    found = diff(tmp_path / "a", tmp_path / "c")
    assert found.same
    assert found.lines == ('format: "zarr" in the first, "hdf5" in the second',)


def test_differences_are_named(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "a", toy)
    write(tmp_path / "b", toy, manifest={**FACTS, "model": "other", "recipe": {"layers": "-2"}}, dtype="int8")
    found = diff(tmp_path / "a", tmp_path / "b")
    assert not found.same
    text = "\n".join(found.lines)
    for words in ('recipe.layers: "last" in the first', "recipe.weights_sha256", 'model: "toy"', 'dtype: "float16"'):
        assert words in text


def test_inputs_that_differ_are_named(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "a", toy)
    fewer = replace(toy, ids=toy.ids[:20], content=toy.content[:20], missing={})
    write(tmp_path / "fewer", fewer)
    lines = diff(tmp_path / "a", tmp_path / "fewer").lines
    assert f"inputs: 4 ids are only in the first ({', '.join(map(str, toy.ids[20:23]))}, ...)" in lines
    assert "failures: 1 only in the first" in "\n".join(lines)
    other = replace(toy, content=[16, *toy.content[1:]])
    write(tmp_path / "other", other)
    lines = diff(tmp_path / "a", tmp_path / "other").lines
    assert f"inputs: 1 have other content ({toy.ids[0]})" in lines
    turned = replace(toy, ids=toy.ids[::-1], content=toy.content[::-1], missing={0: "no such file"})
    write(tmp_path / "turned", turned)
    found = diff(tmp_path / "a", tmp_path / "turned")
    assert not found.same
    assert "inputs: the same ids in another order" in found.lines


def test_values_that_differ_although_the_facts_agree(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "a", toy)
    writer = open_writer(
        tmp_path / "b", manifest=FACTS, ids=toy.ids, digests=toy.digests, lengths=toy.lengths, dim=toy.dim,
        failures=toy.missing,
    )  # fmt: skip
    for shard in writer.claim():
        with shard:
            for position in shard.records:
                if toy.content[position] in toy.broken:
                    shard.fail(position, "not an image", "ab" * 32)
                else:
                    shard.write(position, toy.encode(position) + (position == 2))  # another GPU, say
    writer.seal()
    found = diff(tmp_path / "a", tmp_path / "b")
    assert found.same
    assert found.lines == ("values: 1 of 17 records in common hold other bytes",)


def test_found_by_what_it_is(tmp_path: Path) -> None:
    toy = Toy.make()
    wanted = write(tmp_path / "own/a/val", toy, format="hdf5")["fingerprint"]
    write(tmp_path / "lab/another name", toy)
    write(tmp_path / "lab/packed", toy, compression="zstd")
    write(tmp_path / "lab/other", Toy.make(seed=3))
    begin(tmp_path / "lab/begun", toy)
    (tmp_path / "lab/broken").mkdir()
    (tmp_path / "lab/broken/manifest.json").write_text("{")
    (tmp_path / "lab/broken/CHECKSUMS").write_text("")
    roots = [tmp_path / "own", tmp_path / "lab", tmp_path / "nowhere"]
    assert list(find_complete(roots, wanted)) == [tmp_path / "own/a/val", tmp_path / "lab/another name"]
    assert list(find_complete(roots, wanted, format="zarr")) == [tmp_path / "lab/another name"]


def test_whose_it_is_and_who_is_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begin(tmp_path / "s", Toy.make())
    assert workers(tmp_path / "s") == []
    shard = writer.take(0)
    assert shard is not None
    (worker,) = workers(tmp_path / "s")
    assert worker["pid"] == os.getpid()
    assert info(tmp_path / "s")["workers"] == [worker]
    shard.discard()
    assert info(tmp_path / "s")["owner"] == pwd.getpwuid(os.getuid()).pw_name

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert owner(tmp_path) == str(os.getuid())
