"""The built-in sample: the same bytes every time, valid VQA data, right answers, and no way round the fusion."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from umecache.data.dataset import open_dataset
from umecache.data.normalize import normalize
from umecache.data.sample import Asked, annotate, ask, question_type, write_sample
from umecache.data.scene_questions import FAMILIES, Noun, Query, all_queries
from umecache.data.scenes import KINDS, SIZE, Scene, Shape, make_scene
from umecache.data.scoring import score_question
from umecache.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), images=400, seed=3)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    first = hashes(write_sample(tmp_path / "a", images=100, seed=1))
    assert hashes(write_sample(tmp_path / "b", images=100, seed=1)) == first
    other = hashes(write_sample(tmp_path / "c", images=100, seed=2))
    assert other.keys() == first.keys()
    assert not set(other.values()) & set(first.values())


@pytest.mark.parametrize(
    ("images", "splits", "counts"),
    [(100, ("train", "val"), [80, 20]), (250, ("train", "val", "test"), [200, 25, 25]), (37, ("all",), [37])],
)
def test_sizes(tmp_path: Path, images: int, splits: tuple[str, ...], counts: list[int]) -> None:
    data = open_dataset(write_sample(tmp_path, images=images, seed=1, splits=splits))
    assert set(data.splits) == set(splits)
    assert [len(list((tmp_path / "images").glob(f"SAMPLE_{split}_*.jpg"))) for split in splits] == counts
    for split in splits:
        assert len(data.split(split).questions) > 0


@pytest.mark.parametrize(
    ("images", "splits"), [(50, ("train", "val")), (5, ("train",)), (400, ()), (400, ("val", "val"))]
)
def test_impossible_requests_are_refused(tmp_path: Path, images: int, splits: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as error:
        write_sample(tmp_path / "s", images=images, splits=splits)
    assert error.value.next
    assert not (tmp_path / "s").exists()


def test_it_is_valid_vqa_data(folder: Path) -> None:
    data = open_dataset(folder)
    assert data.splits == ("train", "val")
    for name in data.splits:
        split = data.split(name)
        assert split.annotations is not None
        assert not split.missing_images
        assert len({q.id for q in split.questions}) == len(split.questions)
        assert {q.id for q in split.questions} == set(split.annotations)
        assert {a.answer_type for a in split.annotations.values()} == {"yes/no", "number", "other"}
        assert all(len(a.answers) == 10 for a in split.annotations.values())
        for image_id in split.image_ids[:5]:
            path = split.image_path(image_id)
            assert path is not None
            with Image.open(path) as image:
                assert (image.size, image.mode, image.format) == ((SIZE, SIZE), "RGB", "JPEG")


def test_splits_share_no_image(folder: Path) -> None:
    data = open_dataset(folder)
    train, val = data.split("train"), data.split("val")
    assert not set(train.image_ids) & set(val.image_ids)
    pictures = [path.read_bytes() for path in (folder / "images").iterdir()]
    assert len(set(pictures)) == len(pictures) == 400
    assert not {q.id for q in train.questions} & {q.id for q in val.questions}


def described(folder: Path, split: str) -> dict[int, Scene]:
    """The scenes as the folder describes them."""
    return {
        s["image_id"]: Scene(**{**s, "shapes": tuple(Shape(**shape) for shape in s["shapes"])})
        for s in read(folder, f"scenes_{split}.json")["scenes"]
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_answers_are_right_for_what_is_drawn(folder: Path, split: str) -> None:
    scenes = described(folder, split)
    assert all(make_scene(image_id, seed=3) == scene for image_id, scene in scenes.items())
    meant = {text: query for family in FAMILIES for query in all_queries(family) for text in query.phrasings()}
    data = open_dataset(folder).split(split)
    assert data.annotations is not None
    agree = 0
    for question in data.questions:
        truth = meant[question.text].answer(scenes[question.image_id])
        assert truth is not None
        agree += data.annotations[question.id].answer == truth
    # People err: now and then most of the ten do.
    assert agree / len(data.questions) > 0.985


def test_every_question_is_asked_of_pictures_with_different_answers(folder: Path) -> None:
    scenes = described(folder, "train")
    meant = {text: query for family in FAMILIES for query in all_queries(family) for text in query.phrasings()}
    answers: dict[Query, set[str | None]] = defaultdict(set)
    asked: Counter[tuple[int, Query]] = Counter()
    for question in open_dataset(folder).split("train").questions:
        query = meant[question.text]
        answers[query].add(query.answer(scenes[question.image_id]))
        asked[question.image_id, query] += 1
    assert all(len(found) >= 2 for found in answers.values())
    assert max(asked.values()) == 1  # no picture is asked the same twice


def test_neither_question_nor_picture_has_the_answer(folder: Path) -> None:
    """The best that a question's wording, its meaning, or a picture can do on its own train answers is far from 100."""
    split = open_dataset(folder).split("train")
    assert split.annotations is not None
    meant = {text: query for family in FAMILIES for query in all_queries(family) for text in query.phrasings()}
    by_query: dict[Query, Counter[str]] = defaultdict(Counter)
    by_picture: dict[int, Counter[str]] = defaultdict(Counter)
    for question in split.questions:
        answer = split.annotations[question.id].answer
        by_query[meant[question.text]][answer] += 1
        by_picture[question.image_id][answer] += 1
    total = len(split.questions)
    assert sum(max(counts.values()) for counts in by_query.values()) / total < 0.6
    assert sum(max(counts.values()) for counts in by_picture.values()) / total < 0.6
    yes_no = sum((by_query[q] for q in by_query if q.family in ("exist", "relation")), Counter[str]())
    assert yes_no["yes"] == pytest.approx(yes_no["no"], rel=0.05)


def test_all_families_are_asked() -> None:
    scenes = [make_scene(image_id) for image_id in range(1, 201)]
    asked = [item for group in ask(scenes, per_image=6, seed=0).values() for item in group]
    shares = Counter(item.query.family for item in asked)
    assert set(shares) == set(FAMILIES)
    assert min(shares.values()) / len(asked) > 0.05
    assert len(asked) == pytest.approx(6 * len(scenes), rel=0.02)


def test_ten_people_answer_plausibly(folder: Path) -> None:
    records = read(folder, "annotations_train.json")["annotations"]
    raw = Counter(answer["answer"] for record in records for answer in record["answers"])
    assert {"two", "2", "Yes", "yes", "violet", "a star"} <= set(raw)
    unanimous = sum(len({a["answer"] for a in record["answers"]}) == 1 for record in records) / len(records)
    assert 0.1 < unanimous < 0.6
    for record in records:
        assert [a["answer_id"] for a in record["answers"]] == list(range(1, 11))
        assert {a["answer_confidence"] for a in record["answers"]} <= {"yes", "maybe", "no"}
        assert normalize(record["multiple_choice_answer"]) == record["multiple_choice_answer"]
    ceiling = [
        score_question(record["multiple_choice_answer"], [a["answer"] for a in record["answers"]]) for record in records
    ]
    assert sum(ceiling) / len(ceiling) > 0.97  # the true answer scores nearly full marks


@pytest.mark.parametrize(
    ("query", "truth", "allowed"),
    [
        (Query("count", Noun()), "0", {"0", "1"}),
        (Query("count", Noun()), "3", {"2", "3", "4"}),
        (Query("exist", Noun("star", "red")), "yes", {"yes", "no"}),
        (Query("which", Noun(kind="star"), Noun(kind="circle"), "left"), "circle", {"star", "circle"}),
        (Query("shape", Noun(color="red")), "star", set(KINDS)),
    ],
)
def test_mistakes_are_of_the_right_sort(query: Query, truth: str, allowed: set[str]) -> None:
    synonyms = {"round": "circle", "ball": "circle", "box": "square"}
    given = set()
    for seed in range(300):
        record: Any = annotate(Asked(query, query.phrasings()[0], truth), Random(seed))
        given |= {normalize(answer["answer"]) for answer in record["answers"]}
    assert {synonyms.get(answer, answer) for answer in given} == allowed


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What color is the star?", "what color is the"),
        ("What is the color of the star?", "what is the color of the"),
        ("What is the shape of the red thing?", "what is the"),
        ("How many stars are there?", "how many"),
        ("Is there a red star?", "is there a"),
        ("Is the star above the circle?", "is the"),
        ("Are there any red stars?", "are there any"),
        ("Which is lower, the star or the circle?", "which"),
        ("What is lower, the star or the circle?", "what is"),
        ("Stars?", "none of the above"),
    ],
)
def test_question_types(text: str, kind: str) -> None:
    assert question_type(text) == kind
