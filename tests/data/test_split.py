"""Held-out splits: disjoint, complete, the same everywhere, and the source untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umecache.data.dataset import Dataset, open_dataset
from umecache.data.split import choose, divide_split
from umecache.errors import DataError, UnknownName, UsageError

WriteFolder = Callable[..., Path]


@given(st.sets(st.integers(0, 10**9), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_choice(ids: set[int], fraction: float, seed: int) -> None:
    chosen = choose(ids, fraction, seed)
    assert len(set(chosen)) == len(chosen) and set(chosen) < ids
    assert len(chosen) == min(max(round(fraction * len(ids)), 1), len(ids) - 1)
    assert choose(sorted(ids, reverse=True), fraction, seed) == chosen
    assert set(choose(ids, fraction / 2, seed)) <= set(chosen)  # a larger share holds the smaller


def test_choice_is_pinned_and_hangs_on_the_seed() -> None:
    # Others hold out the same images years from now: a change of these numbers is a change of people's splits.
    assert choose(range(100), 0.05, 0) == [87, 46, 15, 44, 99]
    assert choose(range(100), 0.05, 1) != choose(range(100), 0.05, 0)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_by_image(write_folder: WriteFolder, private_home: Path) -> None:
    folder = write_folder("toy", train=40, val=4)
    before = listing(folder)
    out, parts = divide_split(open_dataset(folder), fraction=0.25, seed=3)
    assert listing(folder) == before
    assert out == private_home / "data" / "toy-train-by-image-0.25-seed3"
    source, data = open_dataset(folder), open_dataset(out.name)
    assert data.splits == ("train", "heldout", "val")
    train, held = data.split("train"), data.split("heldout")
    assert not set(train.image_ids) & set(held.image_ids)
    assert sorted([*train.questions, *held.questions], key=lambda q: q.id) == list(source.split("train").questions)
    assert {**(train.annotations or {}), **(held.annotations or {})} == source.split("train").annotations
    assert [(p.name, p.questions, p.images) for p in parts] == [
        ("train", len(train.questions), len(train.image_ids)),
        ("heldout", len(held.questions), len(held.image_ids)),
    ]
    assert len(held.image_ids) == 5  # a quarter of 21
    assert train.missing_images == held.missing_images == ()
    assert not list(out.rglob("*.jpg"))  # nothing was copied
    assert data.split("val").questions == source.split("val").questions
    assert data.split("val").missing_images == ()


def test_records_stay_as_they_were(write_folder: WriteFolder, tmp_path: Path) -> None:
    folder = write_folder(train=6)
    divide_split(open_dataset(folder), names=("a", "b"), fraction=0.5, out=tmp_path / "out")
    for kind in ("questions", "annotations"):
        source = json.loads((folder / f"{kind}_train.json").read_text())
        parts = [json.loads((tmp_path / "out" / f"{kind}_{name}.json").read_text()) for name in "ab"]
        records = source.pop(kind)
        for part in parts:
            assert [record for record in records if record in part[kind]] == part[kind]
        assert all(part.pop(kind) for part in parts)
        assert parts == [source, source]  # info, license


def test_by_question(write_folder: WriteFolder, tmp_path: Path) -> None:
    data = open_dataset(write_folder(train=20))
    out, parts = divide_split(data, by="question", fraction=0.3, out=tmp_path / "out")
    assert [part.questions for part in parts] == [14, 6]
    train, held = (open_dataset(out).split(name) for name in ("train", "heldout"))
    assert set(train.image_ids) & set(held.image_ids)
    assert {q.id for q in train.questions} | {q.id for q in held.questions} == set(range(1, 21))


def test_without_annotations_and_of_a_toml(write_folder: WriteFolder, tmp_path: Path) -> None:
    questions = [{"question_id": n, "image_id": n, "question": "?"} for n in range(10)]
    folder = write_folder("toy", mine=(questions, None))
    out, _ = divide_split(open_dataset(folder), split="mine", names=("x", "y"), out=tmp_path / "one")
    assert open_dataset(out).split("x").annotations is None
    again, _ = divide_split(open_dataset(out), split="x", names=("x", "z"), out=tmp_path / "two")
    data = open_dataset(again)
    assert data.splits == ("x", "z", "y")
    assert [len(data.split(name).questions) for name in "xzy"] == [8, 1, 1]
    assert all(data.split(name).missing_images == () for name in "xzy")


def test_again_is_fine_something_else_is_not_overwritten(write_folder: WriteFolder, tmp_path: Path) -> None:
    data = open_dataset(write_folder(train=20))
    out = tmp_path / "out"
    out.mkdir()
    divide_split(data, out=out)
    before = listing(out)
    divide_split(data, out=out)
    assert listing(out) == before
    for change in ("seed", "file"):
        with pytest.raises(UsageError, match="holds something else already"):
            if change == "file":
                (out / "mine.txt").write_text("precious")
            divide_split(data, out=out, seed=0 if change == "file" else 1)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="holds something else already"):
        divide_split(data, out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    assert names(tmp_path) == ["file", "out", "toy"]  # nothing half made is left


def test_nothing_is_left_of_a_failure(write_folder: WriteFolder, tmp_path: Path, monkeypatch: Any) -> None:
    data = open_dataset(write_folder(train=20))
    monkeypatch.setattr("umecache.data.split.TOML", "no/such/folder/dataset.toml")
    with pytest.raises(Exception, match="can't be written"):
        divide_split(data, out=tmp_path / "out")
    assert names(tmp_path) == ["toy"]


def toy(write_folder: WriteFolder) -> Dataset:
    return open_dataset(write_folder(train=20, val=4))


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"fraction": 0.0}, UsageError, "between 0 and 1"),
        ({"fraction": 1.0}, UsageError, "between 0 and 1"),
        ({"fraction": float("nan")}, UsageError, "between 0 and 1"),
        ({"by": "answer"}, UnknownName, "image, question"),
        ({"split": "test"}, UnknownName, "Unknown split 'test'"),
        ({"names": ("a", "a")}, UsageError, "can't both be 'a'"),
        ({"names": ("train", "val")}, UsageError, "already has a split 'val'"),
        ({"names": ("train", "../x")}, UsageError, "can't name a split"),
        ({"names": ("train", "é")}, UsageError, "can't name a split"),
        ({"names": ("train", "")}, UsageError, "can't name a split"),
    ],
)
def test_mistakes(
    write_folder: WriteFolder, tmp_path: Path, options: dict[str, Any], kind: type[Exception], says: str
) -> None:
    data = toy(write_folder)
    with pytest.raises(kind, match=says):
        divide_split(data, **{"out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_the_source_is_never_written_to(write_folder: WriteFolder, tmp_path: Path) -> None:
    data = toy(write_folder)
    (tmp_path / "link").symlink_to(data.folder)
    for out in (data.folder, data.folder / "held", tmp_path / "link" / "held"):
        with pytest.raises(UsageError, match="lies inside the source"):
            divide_split(data, out=out)


def test_one_image_can_not_be_divided(write_folder: WriteFolder, tmp_path: Path) -> None:
    questions = [{"question_id": n, "image_id": 7, "question": "?"} for n in range(4)]
    data = open_dataset(write_folder(train=(questions, None)))
    with pytest.raises(DataError, match="has one image"):
        divide_split(data, out=tmp_path / "out")
    assert [part.questions for part in divide_split(data, by="question", out=tmp_path / "out")[1]] == [3, 1]


@pytest.mark.shared
def test_a_tenth_of_the_images_of_daquar(shared: Path, tmp_path: Path) -> None:
    out, parts = divide_split(open_dataset(shared / "data" / "daquar"), out=tmp_path / "daquar-held")
    assert [part.images for part in parts] == [715, 79]
    assert sum(part.questions for part in parts) == 6795
    assert open_dataset(out).split("heldout").missing_images == ()
