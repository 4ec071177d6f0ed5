"""The sample with sound: the same bytes every time, and no two modalities that tell the label."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from umecache.data.dataset import open_dataset
from umecache.data.sample_sound import ASKED, answer, ask, write_sound_sample
from umecache.data.scenes import Scene, Shape, make_scene
from umecache.data.sounds import RATE
from umecache.encoders.audiofile import sound_size
from umecache.errors import UsageError


def shape(kind: str, color: str, x: float, y: float) -> Shape:
    return Shape(kind, color, "small", x, y, 10.0, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound_sample(tmp_path_factory.mktemp("sound") / "sample", images=150, seed=3)


def items_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"items_{split}.jsonl").read_text().splitlines()]


def test_the_folder_is_one_of_labelled_items(folder: Path) -> None:
    data = open_dataset(folder)
    train, val = data.split("train"), data.split("val")
    assert train.annotations is not None and len(train.questions) > 2 * len(val.questions) > 60
    for split in (train, val):
        assert not split.missing_images
        assert len(split.image_ids) < len(split.audio_ids) < len(split.questions), "both are shared"
        for audio_id in split.audio_ids:
            path = split.file_path("audio", audio_id)
            assert path is not None and sound_size(path.read_bytes()).rate == RATE
    assert not {q.id for q in train.questions} & {q.id for q in val.questions}
    assert not set(train.image_ids) & set(val.image_ids)


def test_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    again = write_sound_sample(tmp_path / "again", images=150, seed=3)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_what_is_asked_of_a_scene() -> None:
    star, circle = shape("star", "red", 20, 64), shape("circle", "blue", 100, 100)
    items = {(kind, label) for kind, _, label in ask(Scene(1, 0, "white", "plain", (star, circle)))}
    assert items == {("star", "red"), ("star", "left"), ("circle", "blue"), ("circle", "right")}, "none lies above"
    square, twin = shape("square", "blue", 20, 20), shape("star", "green", 100, 20)
    heard = {kind for kind, _, _ in ask(Scene(1, 0, "white", "plain", (star, circle, square, twin)))}
    assert heard == {"circle", "square"}, "a star's signal would mean two"
    assert ask(Scene(1, 0, "white", "plain", (star,))) == [], "the picture would suffice"


def test_no_two_modalities_suffice() -> None:
    """By what text, sound (a kind) and picture mean: any two of them leave several labels."""
    items = [(kind, text, image_id, label) for image_id in range(1, 301) for kind, text, label in _asked(image_id)]
    whole: dict[Any, set[str]] = defaultdict(set)
    for kind, what, image_id, label in items:
        whole[kind, what, image_id].add(label)
    assert all(len(labels) == 1 for labels in whole.values()), "all three do"
    for pair in combinations(range(3), 2):
        seen: dict[Any, set[str]] = defaultdict(set)
        for item in items:
            seen[tuple(item[place] for place in pair)].add(item[3])
        unclear = sum(len(seen[tuple(item[place] for place in pair)]) > 1 for item in items)
        # Of a picture and a sound, only one thing may be asked.
        assert unclear == len(items) or (pair == (0, 2) and unclear > 0.7 * len(items))


def _asked(image_id: int) -> list[tuple[str, str, str]]:
    what = {wording: name for name, wordings in ASKED.items() for wording in wordings}
    return [(kind, what[text], label) for kind, text, label in ask(make_scene(image_id))]


def test_near_the_middle_there_is_no_side() -> None:
    assert answer("across", shape("star", "red", 60, 10)) is None
    assert answer("upright", shape("star", "red", 60, 10)) == "above"
    assert answer("upright", shape("star", "red", 60, 100)) == "below"


def test_too_few_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too small"):
        write_sound_sample(tmp_path, images=10)
