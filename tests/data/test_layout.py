"""Which files belong to a split, in each of the three layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umecache.data.layout import find_splits, read_toml
from umecache.errors import DataError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_official_names(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "vqa-v2",
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_OpenEnded_mscoco_val2014_questions.json",
        "v2_mscoco_val2014_annotations.json",
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_mscoco_train2014_annotations.json.gz",
        "README.txt",
    )
    name, splits = find_splits(folder)
    assert name == "vqa-v2"
    assert list(splits) == ["train", "val", "test-dev", "test"]
    train = splits["train"]
    assert train.questions == folder / "v2_OpenEnded_mscoco_train2014_questions.json"
    assert train.annotations == folder / "v2_mscoco_train2014_annotations.json.gz"
    assert train.images == tuple(
        folder / name for name in ("train2014", "images/train2014", "images/train", "images_train", "images")
    )
    assert splits["test"].annotations is None
    # test-dev asks about test2015 images
    assert (
        splits["test-dev"].images[:2] == splits["test"].images[:2] == (folder / "test2015", folder / "images/test2015")
    )


def test_plain_names(tmp_path: Path) -> None:
    folder = touch(tmp_path / "toy", "questions_b.json.gz", "questions_train.json", "annotations_train.json")
    _, splits = find_splits(folder)
    assert list(splits) == ["train", "b"]
    assert splits["b"].questions.name == "questions_b.json.gz"
    assert splits["b"].annotations is None
    assert [path.name for path in splits["b"].images] == ["b", "images_b", "images"]


def test_of_plain_and_gzipped_the_plain_is_read(tmp_path: Path) -> None:
    folder = touch(
        tmp_path, *(f"{kind}_train.json{end}" for kind in ("questions", "annotations") for end in ("", ".gz"))
    )
    train = find_splits(folder)[1]["train"]
    assert train.questions.suffix == ".json"
    assert train.annotations is not None and train.annotations.suffix == ".json"


def test_one_split_under_two_names_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "questions_train.json", "v2_OpenEnded_mscoco_train2014_questions.json")
    with pytest.raises(DataError, match="has the split 'train' twice"):
        find_splits(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    touch(tmp_path, "questions.json", "annotations_train.json")
    with pytest.raises(DataError, match=r"holds no data set.*dataset\.toml"):
        find_splits(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no data set.*docs/own-data.md"):
        find_splits(tmp_path / "empty")


def test_toml_rules_alone(tmp_path: Path) -> None:
    folder = touch(tmp_path / "mine", "questions_train.json")
    (folder / "dataset.toml").write_text(
        """
        name = "my-data"

        [splits.all]
        questions = "q.json.gz"

        [splits.other]
        questions = "/elsewhere/q.json"
        annotations = "deep/a.json"
        images = ["pictures", "/elsewhere/pictures"]

        [splits.third]
        questions = "q.json"
        images = "pictures"
        """
    )
    name, splits = find_splits(folder)
    assert name == "my-data"
    assert list(splits) == ["all", "other", "third"]
    assert splits["all"].questions == folder / "q.json.gz"
    assert splits["all"].annotations is None
    assert splits["all"].images == (folder / "images/all", folder / "images_all", folder / "images")
    assert splits["other"].questions == Path("/elsewhere/q.json")
    assert splits["other"].annotations == folder / "deep/a.json"
    assert splits["other"].images == (folder / "pictures", Path("/elsewhere/pictures"))
    assert splits["third"].images == (folder / "pictures",)


def test_the_folder_names_toml_data_that_has_no_name(tmp_path: Path) -> None:
    folder = touch(tmp_path / "my data")
    (folder / "dataset.toml").write_text('[splits.train]\nquestions = "q.json"')
    assert find_splits(folder)[0] == "my data"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "no proper TOML"),
        ("", r"no \[splits.NAME\] table"),
        ("splits = 3", r"no \[splits.NAME\] table"),
        ("[splits]", r"no \[splits.NAME\] table"),
        ("[splits]\ntrain = 3", r"\[splits.train\] is no table"),
        ("[splits.train]", "needs `questions`"),
        ("[splits.train]\nquestions = 3", "needs `questions`"),
        ('[splits.train]\nquestions = ""', "needs `questions`"),
        ('[splits.train]\nquestions = "q"\nannotations = ["a"]', "not as expected"),
        ('[splits.train]\nquestions = "q"\nimages = [3]', "not as expected"),
        ('[splits.train]\nquestions = "q"\nimages = 3', "not as expected"),
        ('[splits.train]\nquestion = "q"', "unknown field 'question'.*Known: questions, annotations, images"),
        ('nam = "x"\n[splits.train]\nquestions = "q"', "unknown field 'nam'"),
        ('name = "a/b"\n[splits.train]\nquestions = "q"', "can't name a folder"),
        ('name = ".."\n[splits.train]\nquestions = "q"', "can't name a folder"),
        ('name = 3\n[splits.train]\nquestions = "q"', "can't name a folder"),
        ('[splits."../train"]\nquestions = "q"', "can't name a folder"),
    ],
)
def test_toml_mistakes(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "dataset.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_toml(path)
    assert str(path) in caught.value.what


def test_toml_that_can_not_be_read(tmp_path: Path, write_json: Callable[[Path, Any], Path]) -> None:
    (tmp_path / "dataset.toml").mkdir()
    with pytest.raises(DataError, match="can't be read"):
        find_splits(tmp_path)
    with pytest.raises(DataError, match="can't be listed"):
        find_splits(tmp_path / "nothing")
    latin = tmp_path / "latin" / "dataset.toml"
    latin.parent.mkdir()
    latin.write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(DataError, match="no proper TOML"):
        find_splits(latin.parent)


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (tmp_path / "dataset.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    name, splits = find_splits(tmp_path)
    assert name == "vqa-v2-text" and list(splits) == ["train", "val"]
    assert splits["val"].questions == Path("/shared/vqa/val_q.json") and splits["val"].annotations is None
    assert splits["val"].images == (Path("/shared/coco/val2014"), tmp_path / "extra")
