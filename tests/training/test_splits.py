"""A trained head answers a whole split from its stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from umecache.data.results import read_results, write_results
from umecache.errors import UsageError
from umecache.stores.errors import StoreMismatch, StoreMissing
from umecache.training.config import FuseConfig
from umecache.training.fuse import fuse
from umecache.training.runs import load_run
from umecache.training.splits import answer_split


@pytest.fixture(scope="module")
def made(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small world with a run in it, and a split `test` without answers: val's questions under another name."""
    folder = tmp_path_factory.mktemp("splits")
    world = kit.world(folder, train=40, val=12)
    said = {"data": str(world.data), "text": str(world.text), "image": str(world.image)}
    run = fuse(FuseConfig(**said, method="product", epochs=3, width=16, out=str(folder / "run")))
    (world.data / "questions_test.json").write_bytes((world.data / "questions_val.json").read_bytes())
    records = world.splits["val"]
    kit.store(world.text / "test", "text", kit.text_items(records), digests=kit.text_digests(records))
    kit.store(world.image / "test", "image", kit.image_items(records))
    return world, run


def test_the_split_it_was_scored_on_is_answered_the_same(made: Any) -> None:
    _, run = made
    found = answer_split(load_run(run.path), "val", batch_size=7)
    assert found.by_question == read_results(run.path / "results_val.json")
    assert found.scores is not None
    assert found.scores.overall == run.document["accuracy"]["overall"]


def test_a_split_without_answers_gives_an_upload(made: Any, tmp_path: Path) -> None:
    world, run = made
    found = answer_split(load_run(run.path), "test")
    assert found.scores is None
    write_results(tmp_path / "results.json", found.by_question, found.split)
    records = json.loads((tmp_path / "results.json").read_text())
    assert [record["question_id"] for record in records] == [each["question_id"] for each in world.splits["val"]]
    assert found.by_question == read_results(run.path / "results_val.json"), "the same inputs, the same answers"


def test_stores_can_be_said(made: Any, kit: Any, tmp_path: Path) -> None:
    world, run = made
    moved = kit.store(tmp_path / "elsewhere" / "test", "image", kit.image_items(world.splits["val"]))
    found = answer_split(load_run(run.path), "test", stores={"image": str(moved.parent)})
    assert found.by_question == answer_split(load_run(run.path), "test", stores={"image": str(moved)}).by_question


def test_what_does_not_fit_is_refused(made: Any, kit: Any, tmp_path: Path) -> None:
    world, run = made
    loaded, records = load_run(run.path), world.splits["val"]
    other = kit.store(tmp_path / "a" / "test", "image", kit.image_items(records), recipe={"weights_sha256": "1" * 64})
    with pytest.raises(StoreMismatch, match="not made as the stores"):
        answer_split(loaded, "test", stores={"image": str(other)})
    few = kit.store(tmp_path / "b" / "test", "image", kit.image_items(records[:5]))
    with pytest.raises(StoreMismatch, match="are not in"):
        answer_split(loaded, "test", stores={"image": str(few)})
    with pytest.raises(StoreMissing, match=r"features have no store of the split 'test'"):
        answer_split(loaded, "test", stores={"image": str(tmp_path / "none")})
    with pytest.raises(UsageError, match="no features called 'audio'"):
        answer_split(loaded, "test", stores={"audio": str(other)})
