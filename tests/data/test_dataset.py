"""Reading and checking data folders."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umecache.data.dataset import Question, open_dataset, read_annotations, read_questions
from umecache.errors import DataError, UnknownName, UsageError

Records = list[dict[str, Any]]
WriteFolder = Callable[..., Path]


@pytest.fixture
def pair(write_folder: WriteFolder) -> tuple[Records, Records]:
    """Questions and annotations of five questions."""
    folder = write_folder("pair", train=5)
    questions = json.loads((folder / "questions_train.json").read_text())["questions"]
    return questions, json.loads((folder / "annotations_train.json").read_text())["annotations"]


def test_a_split(write_folder: WriteFolder) -> None:
    data = open_dataset(write_folder("toy", train=5, val=3))
    assert (data.name, data.splits) == ("toy", ("train", "val"))
    split = data.split("train")
    assert split.questions[0] == Question(1, 100, "What is number 1?")
    assert [question.id for question in split.questions] == [1, 2, 3, 4, 5]
    assert split.image_ids == (100, 101, 102)
    assert (split.name, split.data_name, split.folder) == ("train", "toy", data.folder)
    assert split.annotations is not None and list(split.annotations) == [1, 2, 3, 4, 5]
    annotation = split.annotations[2]
    assert annotation.answers == ("no",) * 6 + ("maybe", "Two", "the cat", "red.")
    assert (annotation.answer, annotation.answer_type, annotation.question_type) == ("no", "yes/no", "type 1")
    path = split.image_path(100)
    assert path is not None and path.name == "TOY_train_000000000100.jpg"
    assert split.missing_images == ()
    assert data.split("train", annotations=False).annotations is None


def test_missing_images_are_counted(write_folder: WriteFolder) -> None:
    folder = write_folder(train=6)
    (folder / "images" / "TOY_train_000000000101.jpg").unlink()
    split = open_dataset(folder).split("train")
    assert split.missing_images == (101,)
    assert split.image_path(101) is None
    shutil.rmtree(folder / "images")
    assert open_dataset(folder).split("train").missing_images == split.image_ids


def test_images_of_two_files_with_one_id(write_folder: WriteFolder) -> None:
    folder = write_folder(train=4)
    (folder / "images" / "other101.jpg").write_bytes(b"")
    split = open_dataset(folder).split("train")
    with pytest.raises(DataError, match="two files for image 101"):
        split.image_path(100)


def test_images_are_not_looked_at_before_they_are_asked_for(write_folder: WriteFolder) -> None:
    folder = write_folder(train=4, images=False)
    split = open_dataset(folder).split("train")
    (folder / "images" / "x100.png").write_bytes(b"")
    assert split.image_path(100) == folder / "images" / "x100.png"


def test_head_and_limit_are_the_same(write_folder: WriteFolder) -> None:
    data = open_dataset(write_folder(train=7))
    whole = data.split("train")
    for limit in (1, 3, 6):
        read, cut = data.split("train", limit=limit), whole.head(limit)
        assert read.questions == cut.questions == whole.questions[:limit]
        assert read.annotations == cut.annotations
        assert list(read.annotations or ()) == [question.id for question in read.questions]
        assert read.image_ids == cut.image_ids
    assert whole.head(None) is whole.head(99) is whole
    assert data.split("train", limit=99).questions == whole.questions
    for limit in (0, -1):
        with pytest.raises(UsageError, match="leaves none"):
            whole.head(limit)
        with pytest.raises(UsageError, match="leaves none"):
            data.split("train", limit=limit)


def test_annotations_keep_the_order_of_their_file(pair: tuple[Records, Records], write_folder: WriteFolder) -> None:
    questions, annotations = pair
    split = open_dataset(write_folder(train=(questions, annotations[::-1]))).split("train")
    assert list(split.annotations or ()) == [5, 4, 3, 2, 1]
    assert list(split.head(2).annotations or ()) == [2, 1]


def test_unknown_split_lists_the_known(write_folder: WriteFolder) -> None:
    data = open_dataset(write_folder(train=2, val=2))
    with pytest.raises(UnknownName, match="Known: train, val"):
        data.split("mine")
    with pytest.raises(UnknownName, match="Did you mean 'train'"):
        data.split("trian")


def test_names_under_home(write_folder: WriteFolder, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder("toy", train=2)
    (private_home / "data").mkdir()
    with pytest.raises(DataError, match=r"no data folder.*Without --data it is vqa-v2.*none.*umecache data get vqa-v2"):
        open_dataset(None)
    with pytest.raises(DataError, match=r"no data folder 'toys', neither here nor below (?!.*data get)"):
        open_dataset("toys")
    shutil.copytree(folder, private_home / "data" / "vqa-v2")
    assert open_dataset(None).folder == open_dataset("vqa-v2").folder == private_home / "data" / "vqa-v2"
    with pytest.raises(DataError, match=r"no data folder.*other.*vqa-v2"):
        open_dataset("other")
    with pytest.raises(DataError, match="no data folder"):
        open_dataset("some/where")
    # A folder of that name where we stand goes first.
    monkeypatch.chdir(folder.parent)
    assert open_dataset("toy").folder == folder
    assert open_dataset(Path("toy")).folder == folder
    monkeypatch.chdir(folder)
    assert open_dataset(".").name == "toy"


def test_a_file_is_no_folder(write_folder: WriteFolder) -> None:
    with pytest.raises(DataError, match="no data folder"):
        open_dataset(write_folder(train=2) / "questions_train.json")


def test_toml_beside_read_only_data(tmp_path: Path, write_folder: WriteFolder) -> None:
    source = write_folder("source", train=4)
    for kind in ("questions", "annotations"):
        (source / f"{kind}.json.gz").write_bytes(gzip.compress((source / f"{kind}_train.json").read_bytes()))
    toml = tmp_path / "mine" / "dataset.toml"
    toml.parent.mkdir()
    toml.write_text(
        '[splits.all]\nquestions = "../source/questions.json.gz"\n'
        'annotations = "../source/annotations.json.gz"\nimages = "../source/images"\n'
    )
    for ref in (toml, toml.parent, str(toml)):
        split = open_dataset(ref).split("all")
        assert len(split.questions) == 4 and split.missing_images == ()
        assert split.data_name == "mine"


def mutated(records: Records, number: int, **changes: Any) -> Records:
    """A copy of records in which one has other values; `...` takes a field out."""
    changed = json.loads(json.dumps(records))
    record = changed[number - 1]
    for field, value in changes.items():
        if value is ...:
            del record[field]
        else:
            record[field] = value
    return changed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"question_id": "3"}, 'record 3: question_id is the string "3"; a whole number'),
        ({"question_id": 3.0}, "record 3: question_id is 3.0"),
        ({"question_id": True}, "record 3: question_id is true"),
        ({"question_id": -1}, "record 3: question_id is -1"),
        ({"question_id": 2**63}, "record 3: question_id is 9223372036854775808"),
        ({"question_id": ...}, "record 3: question_id is missing"),
        ({"image_id": None}, "record 3: image_id is null"),
        ({"image_id": "x"}, 'record 3: image_id is the string "x"'),
        ({"question": 7}, "record 3: question is 7; a string"),
        ({"question": ...}, "record 3: question is missing"),
        ({"question_id": 1}, r"question_id 1 comes twice \(records 1 and 3\)"),
    ],
)
def test_wrong_questions(
    tmp_path: Path, pair: tuple[Records, Records], write_json: Callable[..., Path], changes: Any, says: str
) -> None:
    path = write_json(tmp_path / "q.json", {"questions": mutated(pair[0], 3, **changes)})
    with pytest.raises(DataError, match=says) as caught:
        read_questions(path)
    assert str(path) in caught.value.what


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"question_id": "3"}, 'record 3: question_id is the string "3"'),
        ({"question_id": 77}, "record 3: question_id 77 is no question of"),
        ({"question_id": 1, "image_id": ...}, r"question_id 1 comes twice \(records 1 and 3\)"),
        ({"image_id": 999}, "record 3: question 3 is about image 999, but about image 101 in"),
        ({"image_id": "101"}, "record 3: question 3 is about image the string"),
        ({"answers": ...}, "record 3: answers is missing; a list"),
        ({"answers": {"answer": "yes"}}, "record 3: answers is an object; a list"),
        ({"answers": []}, r"record 3 \(question_id 3\): 0 answers; 10"),
        ({"answers": [{"answer": "yes"}] * 9}, r"record 3 \(question_id 3\): 9 answers; 10"),
        ({"answers": [{"answer": "yes"}] * 11}, ": 11 answers; 10"),
        ({"answers": [{"answer": "yes"}] * 9 + [{}]}, "entry 10 of answers is an object; an object with the string"),
        ({"answers": [{"answer": "yes"}] * 9 + [{"answer": 2}]}, "entry 10 of answers is answer 2;"),
        ({"answers": [{"answer": ["yes"]}] + [{"answer": "yes"}] * 9}, "entry 1 of answers is answer a list;"),
        ({"answers": ["yes"] * 10}, 'entry 1 of answers is the string "yes";'),
        ({"multiple_choice_answer": None}, "multiple_choice_answer is null; a string"),
        ({"question_type": 3}, "question_type is 3; a string"),
        ({"answer_type": ["x"]}, "answer_type is a list; a string"),
    ],
)
def test_wrong_annotations(pair: tuple[Records, Records], write_folder: WriteFolder, changes: Any, says: str) -> None:
    folder = write_folder(train=(pair[0], mutated(pair[1], 3, **changes)))
    with pytest.raises(DataError, match=says) as caught:
        open_dataset(folder).split("train")
    assert str(folder / "annotations_train.json") in caught.value.what


def test_annotations_that_are_too_few(pair: tuple[Records, Records], write_folder: WriteFolder) -> None:
    folder = write_folder(train=(pair[0], pair[1][:2]))
    with pytest.raises(DataError, match=r"no annotation for 3 of 5 questions .*first: question_id 3"):
        open_dataset(folder).split("train")
    assert len(open_dataset(folder).split("train", limit=2).questions) == 2


def test_a_limit_passes_over_annotations_of_other_questions(
    pair: tuple[Records, Records], write_folder: WriteFolder
) -> None:
    data = open_dataset(write_folder(train=(pair[0], pair[1][::-1])))
    assert list(data.split("train", limit=2).annotations or ()) == [2, 1]


def test_fields_that_may_be_absent(
    tmp_path: Path, pair: tuple[Records, Records], write_json: Callable[..., Path]
) -> None:
    absent = dict.fromkeys(("image_id", "multiple_choice_answer", "question_type", "answer_type"), ...)
    answers = [{"answer": text} for text in ["b", "a", "a", "b", "c"] * 2]
    path = write_json(tmp_path / "a.json", {"annotations": mutated(pair[1][:1], 1, answers=answers, **absent)})
    (annotation,) = read_annotations(path, {1: 100}, Path("q.json")).values()
    assert annotation.answer == "b"  # of equals, the first mentioned
    assert annotation.question_type == annotation.answer_type == "unknown"


def test_a_split_without_questions(write_folder: WriteFolder) -> None:
    with pytest.raises(DataError, match=r"questions_val\.json holds no questions"):
        open_dataset(write_folder(val=([], []))).split("val")


def test_a_folder_where_a_file_should_be(write_folder: WriteFolder) -> None:
    folder = write_folder(train=2)
    (folder / "annotations_train.json").unlink()
    (folder / "annotations_train.json").mkdir()
    with pytest.raises(DataError, match=r"annotations_train\.json is a folder"):
        open_dataset(folder).split("train")


def test_equal_strings_are_one_object(write_folder: WriteFolder) -> None:
    annotations = open_dataset(write_folder(train=8)).split("train").annotations or {}
    objects = {id(answer) for annotation in annotations.values() for answer in annotation.answers}
    assert len(objects) == len({answer for annotation in annotations.values() for answer in annotation.answers})


@pytest.mark.shared
def test_real_data(shared: Path, tmp_path: Path) -> None:
    mini = open_dataset(shared / "data" / "vqa-v2-mini")
    train, val = mini.split("train"), mini.split("val")
    assert (len(train.questions), len(val.questions)) == (2219, 542)
    assert len(train.image_ids) + len(val.image_ids) == 1837 == len({*train.image_ids, *val.image_ids})
    assert train.missing_images == val.missing_images == ()
    daquar = open_dataset(shared / "data" / "daquar").split("train")
    assert (len(daquar.questions), len(daquar.image_ids), daquar.missing_images) == (6795, 794, ())
    easy = open_dataset(shared / "data" / "easy-vqa").split("val")
    assert (len(easy.questions), easy.missing_images) == (4847, ())


@pytest.mark.shared
def test_real_text_through_a_toml(shared: Path, tmp_path: Path) -> None:
    text = shared / "data" / "vqa-v2-text"
    (tmp_path / "dataset.toml").write_text(
        f'name = "vqa-v2-text"\n[splits.train]\nquestions = "{text}/questions.json.gz"\n'
        f'annotations = "{text}/annotations.json.gz"\n'
    )
    split = open_dataset(tmp_path).split("train", limit=5000)
    assert split.data_name == "vqa-v2-text" and len(split.questions) == 5000
    assert split.missing_images == split.image_ids
    with pytest.raises(DataError, match="holds no data set"):
        open_dataset(text)
