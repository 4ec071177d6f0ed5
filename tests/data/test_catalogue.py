"""The archives of VQA v2: which are needed for what."""

from __future__ import annotations

import pytest

from umecache.data.catalogue import PARTS, VQA_V2, select
from umecache.errors import UnknownName


def chosen(splits: list[str], parts: list[str]) -> list[str]:
    return [archive.name for archive in select(VQA_V2, splits, parts, listing="help")]


def test_only_what_is_asked_for() -> None:
    assert chosen(["val"], list(PARTS)) == [
        "v2_Questions_Val_mscoco.zip",
        "v2_Annotations_Val_mscoco.zip",
        "val2014.zip",
    ]
    assert chosen(["train", "val"], ["annotations"]) == [
        "v2_Annotations_Train_mscoco.zip",
        "v2_Annotations_Val_mscoco.zip",
    ]
    # test and test-dev share one archive of questions and one of images; their answers are not public
    assert chosen(["test-dev"], list(PARTS)) == ["v2_Questions_Test_mscoco.zip", "test2015.zip"]
    assert chosen(["test", "test-dev"], list(PARTS)) == chosen(["test"], list(PARTS))


def test_counts_of_the_paper() -> None:
    counts = {name: count for archive in VQA_V2 for name, count in archive.contents.items()}
    assert counts["v2_OpenEnded_mscoco_train2014_questions.json"] == counts["v2_mscoco_train2014_annotations.json"]
    assert (counts["train2014"], counts["val2014"], counts["test2015"]) == (82_783, 40_504, 81_434)
    assert counts["v2_OpenEnded_mscoco_val2014_questions.json"] == 214_354
    assert counts["v2_OpenEnded_mscoco_test2015_questions.json"] == 447_793


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match="Unknown split 'trian'"):
        chosen(["trian"], ["questions"])
    with pytest.raises(UnknownName, match=r"Unknown part 'image'.*'images'"):
        chosen(["train"], ["image"])
