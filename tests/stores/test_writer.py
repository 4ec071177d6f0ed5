"""Writers: start, go on, refuse, finish once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stores.toy import FACTS, Toy, begin, fill, tree, write
from umecache.stores import StoreDamaged, StoreError, StoreIncomplete, StoreMismatch, open_store, recipe8
from umecache.stores.verify import verify


@pytest.fixture
def toy() -> Toy:
    return Toy.make()


def started(path: Path, toy: Toy, shards: int, **options: Any) -> None:
    """A store of which some shards are done."""
    writer = begin(path, toy, **options)
    for _, shard in zip(range(shards), writer.claim(), strict=False):
        fill(shard, toy)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"manifest": {**FACTS, "recipe": {"layers": "-2"}}}, r'recipe\.layers: "last" there, "-2" asked for'),
    ({"dtype": "float32"}, r'recipe\.dtype: "float16" there, "float32" asked for'),
    ({"format": "hdf5"}, r'format: "zarr" there, "hdf5" asked for'),
    ({"compression": "zstd"}, r'compression: null there, "zstd" asked for'),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
@pytest.mark.parametrize("sealed", [False, True])
def test_other_facts_are_refused_in_words(
    tmp_path: Path, toy: Toy, change: dict[str, Any], words: str, sealed: bool
) -> None:
    started(tmp_path / "s", toy, 1)
    if sealed:
        write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    with pytest.raises(StoreMismatch, match=words) as caught:
        begin(tmp_path / "s", toy, **change)
    assert "--store" in caught.value.next
    assert tree(tmp_path / "s") == before


@pytest.mark.parametrize("sealed", [False, True])
def test_other_inputs_are_refused_in_words(tmp_path: Path, toy: Toy, sealed: bool) -> None:
    write(tmp_path / "s", toy) if sealed else started(tmp_path / "s", toy, 1)
    fewer = Toy.make(ids=23)
    with pytest.raises(StoreMismatch, match="inputs: 24 there, 23 asked for"):
        begin(tmp_path / "s", fewer)
    other = replace(toy, content=[*toy.content[:-2], (toy.content[-2] + 1) % 17, 0])
    with pytest.raises(StoreMismatch, match="as many, but not the same ones"):
        begin(tmp_path / "s", other)
    with pytest.raises(StoreMismatch, match="dim: 6 there, 7 asked for"):
        begin(tmp_path / "s", replace(toy, dim=7))


def test_another_cut_is_refused_until_it_is_settled(tmp_path: Path, toy: Toy) -> None:
    started(tmp_path / "s", toy, 1)
    with pytest.raises(StoreMismatch, match="shards"):
        begin(tmp_path / "s", toy, shard_records=4)
    assert begin(tmp_path / "s", toy, shard_records=None).done == 1, "a new default doesn't cut it anew"
    write(tmp_path / "s", toy)
    assert begin(tmp_path / "s", toy, shard_records=4).complete


def test_other_versions_are_told_and_kept(tmp_path: Path, toy: Toy) -> None:
    started(tmp_path / "s", toy, 1)
    later = {**FACTS, "origin": {"library": "numpy", "batch_size": 8}}
    writer = begin(tmp_path / "s", toy, manifest=later)
    assert writer.notes == ["origin.batch_size: 4 in the first, 8 in the second"]
    for shard in writer.claim():
        fill(shard, toy)
    facts = writer.seal()
    assert facts["origin"] == FACTS["origin"]
    assert facts["other_origins"] == [later["origin"]]
    assert begin(tmp_path / "s", toy).notes == []


def test_the_recipe_names_the_folder(tmp_path: Path, toy: Toy) -> None:
    facts = write(tmp_path / "s", toy)
    recipe = {**FACTS["recipe"], "dtype": "float16"}  # type: ignore[dict-item]
    assert facts["recipe"] == recipe
    assert facts["recipe_hash"][:8] == recipe8(recipe)
    with pytest.raises(StoreError, match="recipe says float32"):
        begin(tmp_path / "t", toy, manifest={**FACTS, "recipe": {"dtype": "float32"}})


def test_fingerprints_don_t_see_names_paths_formats_or_cuts(tmp_path: Path, toy: Toy) -> None:
    one = write(tmp_path / "a", toy)["fingerprint"]
    named = {**FACTS, "model": "other", "origin": {"library_version": "9"}, "dataset": {"name": "elsewhere"}}
    assert write(tmp_path / "b", toy, manifest=named, format="hdf5", shard_records=2)["fingerprint"] == one
    assert write(tmp_path / "c", toy, dtype="float32")["fingerprint"] != one
    assert write(tmp_path / "d", replace(toy, ids=[i + 1 for i in toy.ids]))["fingerprint"] != one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tar"}, "Unknown store format"),
        ({"dtype": "fp8"}, "Unknown dtype"),
        ({"compression": "gzip"}, "can't use compression 'gzip'.*None or zstd"),
        ({"files": {"../x": b""}}, "can't be called"),
        ({"files": {"/x": b""}}, "can't be called"),
        ({"files": {"a\nb": b""}}, "can't be called"),
    ],
)
def test_bad_arguments(tmp_path: Path, toy: Toy, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        begin(tmp_path / "s", toy, **options)
    assert not (tmp_path / "s").exists()


def test_other_people_s_folders_are_left_alone(tmp_path: Path, toy: Toy) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"neither empty nor an unfinished store.*thesis\.tex"):
        begin(tmp_path / "s", toy)
    (tmp_path / "f").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        begin(tmp_path / "f", toy)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", toy)


def test_sealing_again_is_harmless(tmp_path: Path, toy: Toy) -> None:
    facts = write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    writer = begin(tmp_path / "s", toy)
    assert writer.complete
    assert (writer.done, writer.shards) == (4, 4)
    assert list(writer.claim()) == []
    assert writer.seal() == facts
    assert tree(tmp_path / "s") == before


def test_facts_of_a_sealed_store(tmp_path: Path, toy: Toy) -> None:
    facts = write(tmp_path / "s", toy)
    assert facts["path"] == str(tmp_path / "s")
    assert facts["complete"] is True
    assert facts["bytes"] == sum(len(data) for data in tree(tmp_path / "s").values())
    assert begin(tmp_path / "t", toy).bytes == facts["tokens"] * toy.dim * 2


def test_two_writers_share_the_work(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "whole", toy)
    one, two = begin(tmp_path / "s", toy), begin(tmp_path / "s", toy)
    first, second = one.claim(), two.claim()
    a, b = next(first), next(second)
    assert {a.index, b.index} == {0, 1}
    fill(b, toy)
    assert next(second).index == 2
    fill(a, toy)
    first.close()
    second.close()
    for shard in one.claim():
        fill(shard, toy)
    assert two.done == 4
    assert one.seal() == two.seal()
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_a_process_killed_between_sealing_and_tidying(tmp_path: Path, toy: Toy) -> None:
    write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    (tmp_path / "s/.writing/claims").mkdir(parents=True)
    (tmp_path / "s/.writing-7-x").mkdir()
    assert verify(tmp_path / "s").ok
    assert len(open_store(tmp_path / "s")) == 24
    assert begin(tmp_path / "s", toy).complete
    assert tree(tmp_path / "s") == before
    assert not list((tmp_path / "s").glob(".*"))


def test_files_that_travel(tmp_path: Path, toy: Toy) -> None:
    files = {"model/weights.safetensors": b"123", "vocab.json": b"{}"}
    write(tmp_path / "s", toy, files=files)
    assert (tmp_path / "s/encoder/model/weights.safetensors").read_bytes() == b"123"
    assert "encoder/vocab.json" in (tmp_path / "s/CHECKSUMS").read_text()
    started(tmp_path / "t", toy, 1, files=files)
    with pytest.raises(StoreMismatch, match=r"files\.encoder/vocab\.json"):
        begin(tmp_path / "t", toy, files={**files, "vocab.json": b"[]"})


def test_a_spoilt_plan(tmp_path: Path, toy: Toy) -> None:
    started(tmp_path / "s", toy, 1)
    plan = tmp_path / "s/.writing/plan.json"
    for text in ("{", "{}", '{"facts": []}', json.dumps({**json.loads(plan.read_text()), "plan": 3})):
        plan.write_text(text)
        with pytest.raises(StoreDamaged, match=r"plan\.json"):
            begin(tmp_path / "s", toy, shard_records=None)


def test_an_unfinished_store_says_how_far_it_is(tmp_path: Path, toy: Toy) -> None:
    started(tmp_path / "s", toy, 3)
    with pytest.raises(StoreIncomplete, match=r"3 of 4 shards.*run the same umecache extract command again"):
        open_store(tmp_path / "s")
    with pytest.raises(StoreIncomplete, match="3 of 4"):
        verify(tmp_path / "s")


def test_the_index_is_written_anew_on_request(tmp_path: Path, toy: Toy) -> None:
    """`redo` without shards mends what is no shard, even the manifest, as long as the caller knows the inputs."""
    write(tmp_path / "s", toy)
    before = tree(tmp_path / "s")
    for name in ("manifest.json", "ids/c/0", "zarr.json", "CHECKSUMS", "start/c/0"):
        (tmp_path / "s" / name).write_bytes(b"spoilt")
        writer = begin(tmp_path / "s", toy, redo=[])
        assert list(writer.claim()) == []
        writer.seal()
        assert tree(tmp_path / "s") == before
    (tmp_path / "s/CHECKSUMS").unlink()
    (tmp_path / "s/receipts/000002.json").unlink()
    writer = begin(tmp_path / "s", toy, redo=[2])
    for shard in writer.claim():
        assert shard.index == 2
        fill(shard, toy)
    writer.seal()
    assert tree(tmp_path / "s") == before


def test_offers_never_wait_and_several_shards_may_be_held(tmp_path: Path, toy: Toy) -> None:
    writer = begin(tmp_path / "s", toy)
    offers = writer.offers()
    held = [shard for shard in (next(offers) for _ in range(writer.shards)) if shard is not None]
    assert [shard.index for shard in held] == list(range(writer.shards))
    assert next(offers) is None, "all that is left is ours"
    held[0].discard()
    again = next(offers)
    assert again is not None
    assert again.index == 0
    for shard in [again, *held[1:]]:
        fill(shard, toy)
    assert list(offers) == []
    writer.seal()
    assert tree(tmp_path / "s") == (write(tmp_path / "t", toy), tree(tmp_path / "t"))[1]
